#include "policy.hpp"

#include <algorithm>
#include <cmath>

#include "resize.hpp"

namespace vitrail {

namespace {

constexpr int kMaxSize = 4096, kMaxChannels = 64;

std::int64_t half_to_even(double value) { return static_cast<std::int64_t>(std::nearbyint(value)); }  // in the default rounding mode

struct Place {
  int cut, begin;  // where the cut begins in what was resized, where the picture begins in what is handed out
};

Place place_of(int resized, int side) {
  return resized > side ? Place{static_cast<int>(half_to_even((resized - side) / 2.0)), 0} : Place{0, (side - resized) / 2};
}

}  // namespace

std::string Policy::problem() const {
  if (mode != "crop" && mode != "squash" && mode != "pad") return "mode is none of crop, squash, pad";
  if (!(crop > 0 && crop <= 1)) return "crop is not above 0 and at most 1";
  if (std::floor(std::max(height, width) / crop) > 2 * kMaxSize) return "crop resizes to more than 8192 pixels";
  if (!is_interpolation(interpolation)) return "the interpolation is unknown";
  if (mean.size() != deviation.size() || mean.empty() || mean.size() > kMaxChannels) return "mean and std need one value for each channel";
  if (!std::all_of(mean.begin(), mean.end(), [](double value) { return std::isfinite(value); })) return "mean is not finite";
  if (!std::all_of(deviation.begin(), deviation.end(), [](double value) { return std::isfinite(value) && value > 0; })) return "std is not finite and above 0";
  return {};
}

Size resized(const Policy& policy, int height, int width) {
  const double tall = std::floor(policy.height / policy.crop), wide = std::floor(policy.width / policy.crop);
  const double high = height, broad = width;
  const auto whole = [](double side) { return static_cast<std::int64_t>(side); };
  if (policy.mode == "squash") return {whole(tall), whole(wide)};
  if (policy.mode == "crop" && tall == wide) {
    if (height <= width) return {whole(tall), whole(tall * broad / high)};
    return {whole(wide * high / broad), whole(wide)};
  }
  const double ratio = policy.mode == "pad" ? std::max(high / tall, broad / wide) : std::min(high / tall, broad / wide);
  return {std::max<std::int64_t>(half_to_even(high / ratio), 1), std::max<std::int64_t>(half_to_even(broad / ratio), 1)};
}

Picture Policy::pixels(const Picture& stored, const std::string& name) const {
  const Size size = resized(*this, stored.height, stored.width);
  const double widest = static_cast<double>(std::max<std::int64_t>(size.height, stored.height)) * static_cast<double>(size.width);
  if (widest > static_cast<double>(kMaxPixels)) {  // after either pass
    throw beyond(name, std::to_string(stored.width) + " x " + std::to_string(stored.height) +
                           " pixels would be resized by way of more than " + std::to_string(kMaxPixels) + " pixels, which is the limit");
  }
  const int tall = static_cast<int>(size.height), wide = static_cast<int>(size.width);
  const Place row = place_of(tall, height), column = place_of(wide, width);
  const Window window = {row.cut, column.cut, std::min(height, tall - row.cut), std::min(width, wide - column.cut)};
  Picture kept = resize(stored, tall, wide, interpolation, window);
  if (kept.height == height && kept.width == width) return kept;
  Picture framed(height, width, stored.channels);
  std::vector<std::uint8_t> bars;
  for (const double value : mean) bars.push_back(static_cast<std::uint8_t>(half_to_even(255 * std::clamp(value, 0.0, 1.0))));
  for (std::size_t i = 0; i < framed.data.size(); ++i) framed.data[i] = bars[i % bars.size()];
  for (int y = 0; y < kept.height; ++y) {
    std::copy_n(kept.row(y), static_cast<std::size_t>(kept.width) * kept.channels,
                framed.row(row.begin + y) + static_cast<std::ptrdiff_t>(column.begin) * framed.channels);
  }
  return framed;
}

void Policy::normalise(const Picture& pixels, float* out) const {
  const std::size_t deep = mean.size(), plane = static_cast<std::size_t>(pixels.height) * pixels.width;
  for (std::size_t channel = 0; channel < deep; ++channel) {
    float table[256];
    for (int value = 0; value < 256; ++value) table[value] = static_cast<float>((value / 255.0 - mean[channel]) / deviation[channel]);
    const std::uint8_t* from = pixels.data.data() + channel;
    float* to = out + channel * plane;
    for (std::size_t i = 0; i < plane; ++i) to[i] = table[from[i * deep]];
  }
}

}  // namespace vitrail
