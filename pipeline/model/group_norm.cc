#include "pipeline/model/group_norm.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "ATen/Parallel.h"
#include "ATen/ops/empty.h"
#include "pipeline/base/status_macros.h"
#include "pipeline/model/vector_math.h"

namespace image_variations {
namespace {

// One input: its pixels follow each other, `channels` values each.
template <typename T>
struct Part {
  const T* pixels = nullptr;
  int64_t channels = 0;
};

// A task's pixels. A function of the picture's size alone, as sums depend on it.
int64_t PixelsPerChunk(int64_t pixels) { return std::clamp<int64_t>(pixels / 128, 32, 256); }

template <typename T>
class GroupNormPass {
 public:
  GroupNormPass(const at::Tensor& x, const at::Tensor& skip, const at::Tensor& channel_bias,
                const GroupNormOptions& options)
      : rows_(x.size(0)),
        pixels_(x.size(2) * x.size(3)),
        chunk_pixels_(PixelsPerChunk(pixels_)),
        chunks_((pixels_ + chunk_pixels_ - 1) / chunk_pixels_),
        parts_{{x.const_data_ptr<T>(), x.size(1)},
               {skip.defined() ? skip.const_data_ptr<T>() : nullptr,
                skip.defined() ? skip.size(1) : 0}},
        channels_(parts_[0].channels + parts_[1].channels),
        channel_bias_(channel_bias.defined() ? channel_bias.const_data_ptr<float>() : nullptr),
        options_(options),
        origin_(Floats(rows_ * channels_)),
        moments_(Floats(rows_ * chunks_ * 2 * channels_)),
        scale_(Floats(rows_ * channels_)),
        shift_(Floats(rows_ * channels_)) {}

  // weight, bias: float32.
  at::Tensor Run(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
    CollectMoments();
    at::parallel_for(0, rows_ * options_.groups, 8, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) {
        FindScales(task / options_.groups, task % options_.groups, weight.const_data_ptr<float>(),
                   bias.const_data_ptr<float>());
      }
    });
    at::Tensor out = options_.in_place ? x
                                       : at::empty({rows_, channels_, x.size(2), x.size(3)},
                                                   x.options(), at::MemoryFormat::ChannelsLast);
    Normalize(out.mutable_data_ptr<T>());
    return out;
  }

 private:
  static at::Tensor Floats(int64_t size) { return at::empty({size}, at::kFloat); }

  // Calls body(row, chunk, first pixel, end pixel) for all pixels of all rows.
  template <typename Body>
  void ForEachChunk(Body body) const {
    at::parallel_for(0, rows_ * chunks_, 1, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) {
        const int64_t chunk = task % chunks_;
        const int64_t first = chunk * chunk_pixels_;
        body(task / chunks_, chunk, first, std::min(first + chunk_pixels_, pixels_));
      }
    });
  }

  const T* Pixel(const Part<T>& part, int64_t row, int64_t pixel) const {
    return part.pixels + (row * pixels_ + pixel) * part.channels;
  }

  // Sums and sums of squares of each channel in each chunk, relative to the row's first pixel: so
  // the squares do not cancel where the mean is far from zero.
  void CollectMoments() {
    float* origin = origin_.mutable_data_ptr<float>();
    for (int64_t row = 0; row < rows_; ++row) {
      float* to = origin + row * channels_;
      for (const Part<T>& part : parts_) {
        const T* from = Pixel(part, row, 0);
        for (int64_t i = 0; i < part.channels; ++i) *to++ = static_cast<float>(from[i]);
      }
    }
    float* moments = moments_.mutable_data_ptr<float>();
    ForEachChunk([&](int64_t row, int64_t chunk, int64_t first, int64_t end) {
      float* sums = moments + (row * chunks_ + chunk) * 2 * channels_;
      std::fill_n(sums, 2 * channels_, 0.0f);
      for (int64_t pixel = first; pixel < end; ++pixel) {
        int64_t channel = 0;
        for (const Part<T>& part : parts_) {
          AddMoments(Pixel(part, row, pixel), origin + row * channels_ + channel, part.channels,
                     sums + channel, sums + channels_ + channel);
          channel += part.channels;
        }
      }
    });
  }

  void FindScales(int64_t row, int64_t group, const float* weight, const float* bias) {
    const int64_t width = channels_ / options_.groups;
    const int64_t first = group * width;
    const double count = static_cast<double>(pixels_);
    std::vector<double> means;
    double mean = 0, squares = 0;
    for (int64_t channel = first; channel < first + width; ++channel) {
      double sum = 0, square = 0;
      for (int64_t chunk = 0; chunk < chunks_; ++chunk) {
        const float* sums =
            moments_.const_data_ptr<float>() + (row * chunks_ + chunk) * 2 * channels_;
        sum += sums[channel];
        square += sums[channels_ + channel];
      }
      means.push_back(origin_.const_data_ptr<float>()[row * channels_ + channel] + sum / count +
                      ChannelBias(row, channel));
      mean += means.back() / static_cast<double>(width);
      squares += square - sum * sum / count;
    }
    for (const double channel_mean : means) {
      squares += count * (channel_mean - mean) * (channel_mean - mean);
    }
    const double variance = std::max(squares / (count * static_cast<double>(width)), 0.0);
    const double inverse = 1 / std::sqrt(variance + options_.eps);
    for (int64_t channel = first; channel < first + width; ++channel) {
      const double scale = weight[channel] * inverse;
      const double shift = bias[channel] + (ChannelBias(row, channel) - mean) * scale;
      scale_.mutable_data_ptr<float>()[row * channels_ + channel] = static_cast<float>(scale);
      shift_.mutable_data_ptr<float>()[row * channels_ + channel] = static_cast<float>(shift);
    }
  }

  void Normalize(T* out) {
    const float* scales = scale_.const_data_ptr<float>();
    const float* shifts = shift_.const_data_ptr<float>();
    ForEachChunk([&](int64_t row, int64_t, int64_t first, int64_t end) {
      T* to = out + (row * pixels_ + first) * channels_;
      for (int64_t pixel = first; pixel < end; ++pixel) {
        int64_t channel = row * channels_;
        for (const Part<T>& part : parts_) {
          const auto pass = [&](auto function) {
            function(Pixel(part, row, pixel), scales + channel, shifts + channel, part.channels,
                     to);
          };
          if (options_.silu) {
            pass([](auto... arguments) { ScaleShiftSilu(arguments...); });
          } else {
            pass([](auto... arguments) { ScaleShift(arguments...); });
          }
          channel += part.channels;
          to += part.channels;
        }
      }
    });
  }

  double ChannelBias(int64_t row, int64_t channel) const {
    return channel_bias_ == nullptr ? 0 : channel_bias_[row * channels_ + channel];
  }

  const int64_t rows_, pixels_, chunk_pixels_, chunks_;
  const Part<T> parts_[2];
  const int64_t channels_;
  const float* const channel_bias_;
  const GroupNormOptions options_;
  at::Tensor origin_, moments_, scale_, shift_;
};

}  // namespace

bool HasGroupNormKernel(const at::Tensor& x) {
  return x.is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16) &&
         x.is_contiguous(at::MemoryFormat::ChannelsLast);
}

at::Tensor GroupNormChannelsLast(const at::Tensor& x, const at::Tensor& skip,
                                 const at::Tensor& channel_bias, const at::Tensor& weight,
                                 const at::Tensor& bias, const GroupNormOptions& options) {
  IV_CHECK(HasGroupNormKernel(x) && (!skip.defined() || HasGroupNormKernel(skip)));
  IV_CHECK(!skip.defined() || !options.in_place);
  const auto as_floats = [](const at::Tensor& tensor) {
    return tensor.defined() ? tensor.to(at::kFloat).contiguous() : tensor;
  };
  const at::Tensor float_bias = as_floats(channel_bias);
  const auto run = [&](auto zero) {
    return GroupNormPass<decltype(zero)>(x, skip, float_bias, options)
        .Run(x, as_floats(weight), as_floats(bias));
  };
  return x.scalar_type() == at::kFloat ? run(float{}) : run(c10::BFloat16{});
}

}  // namespace image_variations
