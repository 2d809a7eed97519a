// What both rpcs for variations have in common: their record, and what the server holds for their
// answer.
#pragma once

#include <functional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "grpcpp/support/status.h"
#include "server/admission.h"
#include "server/caller_limits.h"
#include "server/generate_reply.h"
#include "server/open_answers.h"
#include "server/rpc_record.h"

namespace image_variations {

// What a call with a request_id has of the server besides the work, which others share: bytes for
// its own copy of the answer until gRPC is done, a repeated one its caller's place until the end.
struct AnswerShare {
  HeldBytes bytes;
  CallerTicket caller;
};

// A reply to one call.
class VariationsRpc : public GenerateReply {
 public:
  VariationsRpc(RpcRecord record, OpenAnswers& answers)
      : record_(std::move(record)), answers_(answers) {}

  // Variations in memory at a time.
  virtual int MostVariations(int sample_count) const = 0;
  const std::string& trace_id() const { return record_.trace_id(); }

  // What to do when the caller is gone. This and Keep: before the rpc's method returns and before
  // OnEnd.
  void WhenCancelled(std::function<void()> cancel) { cancel_ = std::move(cancel); }
  void Keep(AnswerShare share) { share_ = std::move(share); }
  void GiveBackPlace() { share_.caller = {}; }

 protected:
  void OpenAnswer() { answer_ = answers_.Open(); }  // until gRPC is done
  void OnMessageSent() { record_.OnMessageSent(); }
  void CancelWork() {
    if (cancel_) cancel_();
  }
  // The status to finish with.
  grpc::Status End(const absl::Status& status) {
    GiveBackPlace();  // before the answer, on which the caller may call again
    return record_.End(status);
  }

 private:
  RpcRecord record_;
  OpenAnswers& answers_;
  OpenAnswers::Answer answer_;  // from admission on
  AnswerShare share_;
  std::function<void()> cancel_;
};

}  // namespace image_variations
