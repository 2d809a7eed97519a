// Which previews are encoded, and by whom: every call of EncodePreview is watched (ld --wrap).
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "grpcpp/client_context.h"
#include "grpcpp/server_context.h"
#include "gtest/gtest.h"
#include "server/generate_reactors.h"
#include "server/shared_reply.h"
#include "tests/server/test_calls.h"
#include "tests/server/test_server.h"

namespace image_variations {

// By its symbol: --wrap has every call of it arrive at the second.
#define IV_ENCODE_PREVIEW "_ZN16image_variations13EncodePreviewERKNS_14PreviewPictureE"
absl::StatusOr<imagevariations::v1::Preview> RealEncode(const PreviewPicture&) asm(
    "__real_" IV_ENCODE_PREVIEW);
absl::StatusOr<imagevariations::v1::Preview> WatchedEncode(const PreviewPicture&) asm(
    "__wrap_" IV_ENCODE_PREVIEW);

namespace {

namespace v1 = imagevariations::v1;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::Pair;

struct Watch {
  std::function<void()> before = [] {};  // encoding
  std::mutex mutex;
  std::vector<std::pair<int, int>> encoded;  // sample, step
  std::vector<std::thread::id> threads;      // parallel to it
};

Watch& TheWatch() {
  static Watch watch;
  return watch;
}

class PreviewEncoding : public ::testing::Test {
 protected:
  PreviewEncoding() {
    encoded().clear();
    TheWatch().threads.clear();
  }
  ~PreviewEncoding() override {
    TheWatch().before = [] {};
  }
  static std::vector<std::pair<int, int>>& encoded() { return TheWatch().encoded; }
};

PreviewPicture PictureOf(int sample, int step) {
  const Image picture{1, 1, {0, 0, 0}};
  return {sample, step,
          std::make_shared<const CheckedImage>(SafetyPolicy(SafetyMode::kOff).Judge(picture, {}))};
}

// A stream of which gRPC sends an event when the test says so.
class UnboundStream {
 public:
  UnboundStream()
      : reactor_(new StreamReactor(
            RpcRecord(metrics_, clock_, context_, "StreamVariations", "server_stream"), answers_,
            codecs_, /*wants_progress=*/true, /*wants_previews=*/true)) {}
  ~UnboundStream() {
    reactor_->OnEnd(absl::CancelledError());
    WaitForCodecs();
    reactor_->OnDone();
  }

  GenerateReply& reply() { return *reactor_; }
  void Show(int sample, int step) {
    reactor_->OnPreview(PictureOf(sample, step));
    WaitForCodecs();
  }
  void Send() {
    reactor_->OnWriteDone(/*ok=*/true);
    WaitForCodecs();
  }

 private:
  void WaitForCodecs() {
    absl::Notification is_idle;
    codecs_.Run([&] { is_idle.Notify(); });
    is_idle.WaitForNotification();
  }

  const RealClock clock_;
  Metrics metrics_{1};
  OpenAnswers answers_;
  grpc::CallbackServerContext context_;
  WorkerPool codecs_{1};
  StreamReactor* reactor_;  // deletes itself
};

TEST_F(PreviewEncoding, IsOfTheLatestOfEachSampleInTurn) {
  UnboundStream stream;
  stream.Show(1, 1);  // is being sent
  stream.Show(0, 1);
  stream.Show(1, 2);
  stream.Show(0, 2);
  stream.Show(2, 2);
  EXPECT_THAT(encoded(), ElementsAre(Pair(1, 1)));
  for (int i = 0; i < 4; ++i) stream.Send();
  EXPECT_THAT(encoded(), ElementsAre(Pair(1, 1), Pair(2, 2), Pair(0, 2), Pair(1, 2)));
}

// Reads a stream of previews after each of its steps to its end.
void ReadAll(TestServer& server, int samples, int steps) {
  v1::StreamVariationsRequest request;
  *request.mutable_generation() = Request(samples, steps);
  request.mutable_preview()->set_interval_steps(1);
  request.set_progress(true);
  grpc::ClientContext context;
  const auto reader = server.stub().StreamVariations(&context, request);
  v1::StreamVariationsResponse event;
  while (reader->Read(&event)) {
  }
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(PreviewEncoding, IsNothingForTheEnginesThread) {
  std::thread::id engine;
  TestServer server(
      {.engine = {.safety = SafetyMode::kOff},
       .set_up_runner = [&](FakeModelRunner&) { engine = std::this_thread::get_id(); }});
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) callers.emplace_back([&] { ReadAll(server, 4, 200); });
  for (std::thread& caller : callers) caller.join();
  EXPECT_THAT(TheWatch().threads, Not(IsEmpty()));
  EXPECT_THAT(TheWatch().threads, Not(Contains(engine)));
}

TEST_F(PreviewEncoding, HoldsUpNoOtherNewsOfASharedRequest) {
  UnboundStream stream;
  const auto work = std::make_shared<SharedReply>("", absl::InfiniteFuture(), /*max_listeners=*/1,
                                                  [](SharedReply&, bool) {});
  ASSERT_TRUE(work->Listen(stream.reply(), absl::InfiniteFuture()).value());
  absl::Notification is_encoding, release, is_told;
  TheWatch().before = [&] {
    is_encoding.Notify();
    release.WaitForNotification();
  };
  std::thread preview([&] { work->OnPreview(PictureOf(0, 1)); });
  is_encoding.WaitForNotification();
  std::thread progress([&] {
    work->OnProgress({});
    is_told.Notify();
  });
  EXPECT_TRUE(is_told.WaitForNotificationWithTimeout(absl::Seconds(30)));
  release.Notify();
  preview.join();
  progress.join();
}

}  // namespace

absl::StatusOr<v1::Preview> WatchedEncode(const PreviewPicture& preview) {
  TheWatch().before();
  {
    Watch& watch = TheWatch();
    const std::lock_guard lock(watch.mutex);
    watch.encoded.emplace_back(preview.index, preview.step);
    watch.threads.push_back(std::this_thread::get_id());
  }
  return RealEncode(preview);
}

}  // namespace image_variations
