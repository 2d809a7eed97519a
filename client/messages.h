// What a client says and hears, as plain values. Meaning, ranges and defaults are those of the
// fields of the same names in imagevariations/v1/image_variations.proto; a default member means
// "the server's".
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace image_variations::client {

enum class Preprocessing { kUnspecified, kModelCard, kClipProcessor };
enum class Priority { kUnspecified, kInteractive, kBatch };

struct VariationRequest {
  std::string image = {};  // JPEG or PNG bytes
  int sample_count = 1;
  std::optional<int64_t> seed = {};  // sample i uses seed + i; absent: drawn by the server
  std::optional<float> guidance_scale = {};
  std::optional<int> step_count = {};
  std::string sampler = {};
  std::optional<float> eta = {};
  int width = 0, height = 0;  // pixels
  Preprocessing preprocessing = Preprocessing::kUnspecified;
  std::string mime_type = {};  // "image/png" or "image/jpeg"
  int jpeg_quality = 0;
  bool omit_metadata = false;
  // UUID; empty: a new one, so that a repeated attempt is not work done twice.
  std::string request_id = {};
  Priority priority = Priority::kUnspecified;
  int preview_interval_steps = 0, preview_max_size = 0;  // of previews, if somebody hears of them
  absl::Time deadline = absl::InfiniteFuture();  // of the whole call, attempts and waits included
};

struct EffectiveParameters {
  std::string request_id = {};
  int64_t seed = 0;
  float guidance_scale = 0;
  int step_count = 0;
  std::string sampler = {};
  float eta = 0;
  int width = 0, height = 0;  // pixels
  Preprocessing preprocessing = Preprocessing::kUnspecified;
  std::string model_id = {}, fingerprint = {};
};

struct RequestMetrics {
  absl::Duration queue_time = {}, decode_time = {}, embed_time = {}, denoise_time = {};
  absl::Duration latents_decode_time = {}, safety_time = {}, encode_time = {}, total_time = {};
  int64_t unet_rows = 0;
  double mean_batch_rows = 0;
};

enum class Outcome { kGenerated, kFiltered, kFailed };

struct SampleError {
  std::string code = {}, message = {};  // code: "INTERNAL"
};

struct Variation {
  int index = 0;
  Outcome outcome = Outcome::kFailed;
  int64_t seed = 0;
  std::string mime_type = {};
  std::string image = {};                // encoded; empty unless kGenerated
  int width = 0, height = 0;             // pixels
  std::optional<float> similarity = {};  // to the source; -1 to 1
  SampleError error = {};                // of kFailed
};

struct Admitted {
  EffectiveParameters parameters = {};
  absl::Duration predicted_start = {}, predicted_finish = {};  // from now
  int samples_ahead = 0;
};

struct Progress {
  int steps_done = 0, steps_total = 0;  // over all samples of the request
  absl::Duration predicted_remaining = {};
};

// A rough picture of what a sample becomes.
struct Preview {
  int index = 0;
  int step = 0;  // steps that the sample has taken
  std::string mime_type = {}, image = {};
};

struct VariationResult {
  // By index; every sample that was asked for, whatever its outcome.
  std::vector<Variation> variations = {};
  EffectiveParameters parameters = {};
  RequestMetrics metrics = {};
};

struct ModelLimits {
  int64_t max_image_bytes = 0, max_image_pixels = 0, max_unary_reply_bytes = 0;
  int max_sample_count = 0, max_step_count = 0;
  int min_size = 0, max_size = 0, size_multiple = 0;
  float max_guidance_scale = 0;
};

struct ModelDevice {
  std::string device = {}, dtype = {}, fingerprint = {};
  bool reproducible = false;
};

struct ModelDescription {
  std::string model_id = {}, revision = {}, device = {}, dtype = {}, safety = {};
  std::string fingerprint = {}, server_version = {};
  std::map<std::string, std::string> component_sha256 = {};
  std::vector<std::string> samplers = {};
  VariationRequest defaults = {};  // image empty
  ModelLimits limits = {};
  bool reproducible = false;
  std::vector<ModelDevice> devices = {};  // empty: an older server, with one
};

enum class ServerState { kUnspecified, kStarting, kServing, kDraining, kFailed };

struct DeviceStatus {
  std::string device = {};
  int rows_running = 0, samples_running = 0, samples_waiting = 0;
  absl::Duration predicted_wait = {};
  std::map<int, absl::Duration> step_costs = {};  // UNet rows in a call -> its time
};

struct ServerStatus {
  ServerState state = ServerState::kUnspecified;
  int rows_running = 0, samples_waiting = 0;
  absl::Duration predicted_wait = {};
  std::map<int, absl::Duration> step_costs = {};  // as a device's
  std::vector<DeviceStatus> devices = {};
};

enum class ServingStatus { kUnknown, kServing, kNotServing };

}  // namespace image_variations::client
