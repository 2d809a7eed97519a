#include "pipeline/model/call_recorder.h"

#include "ATen/TensorOperators.h"
#include "ATen/ops/full.h"
#include "c10/core/InferenceMode.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace image_variations {
namespace {

using testing::ElementsAre;

// A device without kernels: a replay runs `again`, which reads and writes where the recorded call
// did.
struct FakeDevice {
  c10::InferenceMode as_on_the_engine_thread;
  std::vector<std::string> log;
  std::function<void()> again;
  bool fails = false;  // to record
  bool has_memory = true;

  CallRecorder::Factory Factory() {
    return [this] { return std::make_unique<Recorded>(this); };
  }

  struct Recorded final : RecordedCall {
    explicit Recorded(FakeDevice* owner) : device(owner) {}
    void Begin() override {
      device->log.push_back("begin");
      if (!device->has_memory) throw std::bad_alloc();
    }
    void End() override {
      device->log.push_back("end");
      if (device->fails)
        throw std::runtime_error("operation not permitted when stream is capturing");
    }
    void Replay() override {
      device->log.push_back("replay");
      device->again();
    }
    FakeDevice* device;
  };
};

at::Tensor Filled(int64_t rows, double value) { return at::full({rows, 2}, value, at::kFloat); }

double FirstOf(const at::Tensor& tensor) { return tensor.flatten()[0].item<double>(); }

// Doubles its input, and tells the device how to do it again in place.
at::Tensor Double(FakeDevice& device, const CallRecorder::Tensors& inputs) {
  at::Tensor output = inputs[0] * 2;
  device.again = [input = inputs[0], output] { output.copy_(input * 2); };
  device.log.push_back("forward");
  return output;
}

double RunDouble(CallRecorder& recorder, FakeDevice& device, int64_t rows, double value) {
  return FirstOf(recorder.Run({Filled(rows, value)}, [&](const CallRecorder::Tensors& inputs) {
    return Double(device, inputs);
  }));
}

TEST(CallRecorder, RecordsACallAtItsSecondTimeAndReplaysItFromThen) {
  FakeDevice device;
  CallRecorder recorder(device.Factory());
  EXPECT_EQ(RunDouble(recorder, device, 4, 1), 2);
  EXPECT_EQ(RunDouble(recorder, device, 4, 5), 10);
  EXPECT_EQ(RunDouble(recorder, device, 4, 7), 14);
  EXPECT_THAT(device.log, ElementsAre("forward", "begin", "forward", "end", "replay", "replay"));
}

TEST(CallRecorder, CallsOfOtherSizesHaveTheirOwnRecording) {
  FakeDevice device;
  CallRecorder recorder(device.Factory());
  for (const int64_t rows : {2, 4, 2, 4}) RunDouble(recorder, device, rows, 1);
  EXPECT_EQ(recorder.recorded(), 2);
}

TEST(CallRecorder, AnAnswerIsNotOverwrittenByTheNextReplay) {
  FakeDevice device;
  CallRecorder recorder(device.Factory());
  const auto forward = [&](const CallRecorder::Tensors& inputs) { return Double(device, inputs); };
  recorder.Run({Filled(1, 1)}, forward);
  const at::Tensor first = recorder.Run({Filled(1, 3)}, forward);
  recorder.Run({Filled(1, 50)}, forward);
  EXPECT_EQ(FirstOf(first), 6);
}

TEST(CallRecorder, ACallThatCannotBeRecordedRunsAsItIsAndEndsRecording) {
  FakeDevice device;
  device.fails = true;
  CallRecorder recorder(device.Factory());
  EXPECT_EQ(RunDouble(recorder, device, 1, 1), 2);
  EXPECT_EQ(RunDouble(recorder, device, 1, 2), 4);
  EXPECT_EQ(RunDouble(recorder, device, 1, 3), 6);
  EXPECT_THAT(device.log, ElementsAre("forward", "begin", "forward", "end", "forward", "forward"));
}

TEST(CallRecorder, WithoutMemoryForARecordingACallRunsAsItIsAndIsRecordedLater) {
  FakeDevice device;
  CallRecorder recorder(device.Factory());
  for (int time = 0; time < 2; ++time) RunDouble(recorder, device, 8, 1);  // has been recorded
  device.log.clear();
  device.has_memory = false;
  EXPECT_EQ(RunDouble(recorder, device, 1, 1), 2);
  EXPECT_EQ(RunDouble(recorder, device, 1, 2), 4);
  EXPECT_EQ(RunDouble(recorder, device, 1, 3), 6);
  EXPECT_THAT(device.log, ElementsAre("forward", "begin", "end", "forward", "forward"));
  EXPECT_EQ(recorder.recorded(), 1) << "what was recorded before still is";

  device.has_memory = true;
  for (int64_t i = 0; i < CallRecorder::kCallsUntilNextTry; ++i) {
    RunDouble(recorder, device, 1, 4);
  }
  EXPECT_EQ(recorder.recorded(), 2);
  EXPECT_EQ(RunDouble(recorder, device, 1, 5), 10);
}

TEST(CallRecorder, ForgetsTheCallThatWasNotUsedForLongest) {
  FakeDevice device;
  CallRecorder recorder(device.Factory());
  for (size_t rows = 1; rows <= CallRecorder::kMaxCalls + 1; ++rows) {
    RunDouble(recorder, device, static_cast<int64_t>(rows), 1);
    RunDouble(recorder, device, static_cast<int64_t>(rows), 1);
  }
  EXPECT_EQ(recorder.recorded(), CallRecorder::kMaxCalls);
  device.log.clear();
  RunDouble(recorder, device, 1, 1);
  EXPECT_THAT(device.log, ElementsAre("forward")) << "as if it were new";
}

TEST(CallRecorder, HasNothingAfterClear) {
  FakeDevice device;
  CallRecorder recorder(device.Factory());
  for (int time = 0; time < 2; ++time) RunDouble(recorder, device, 1, 1);
  recorder.Clear();
  EXPECT_EQ(recorder.recorded(), 0);
  EXPECT_EQ(RunDouble(recorder, device, 1, 4), 8);
}

TEST(CallRecorder, RunsCallsWhereNothingIsRecorded) {
  FakeDevice device;
  CallRecorder recorder({});
  for (int time = 0; time < 3; ++time) EXPECT_EQ(RunDouble(recorder, device, 1, 4), 8);
  EXPECT_EQ(recorder.recorded(), 0);
}

}  // namespace
}  // namespace image_variations
