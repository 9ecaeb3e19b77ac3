#include "resize.hpp"

#include <algorithm>
#include <cmath>

namespace vitrail {

namespace {

constexpr int kBits = 22;  // of the fraction
constexpr double kPi = 3.14159265358979323846;

double box(double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }

double bilinear(double x) {
  x = std::abs(x);
  return x < 1.0 ? 1.0 - x : 0.0;
}

double hamming(double x) {
  x = std::abs(x);
  if (x == 0.0) return 1.0;
  if (x >= 1.0) return 0.0;
  x = x * kPi;
  return std::sin(x) / x * (static_cast<double>(0.54f) + static_cast<double>(0.46f) * std::cos(x));  // as Pillow: two floats
}

double bicubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

double sinc(double x) {
  if (x == 0.0) return 1.0;
  x = x * kPi;
  return std::sin(x) / x;
}

double lanczos(double x) { return -3.0 <= x && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0; }

struct Filter {
  const char* name;
  double (*weight)(double);
  double support;  // how far it reaches
};

constexpr Filter kFilters[] = {
    {"nearest", nullptr, 0}, {"box", box, 0.5},         {"bilinear", bilinear, 1.0},
    {"hamming", hamming, 1}, {"bicubic", bicubic, 2.0}, {"lanczos", lanczos, 3.0},
};

const Filter& filter_of(const std::string& name) {
  return *std::find_if(std::begin(kFilters), std::end(kFilters), [&](const Filter& filter) { return filter.name == name; });
}

struct Reach {  // of one pixel of the result: its sources and their weights
  int first, count;
  std::size_t weights;  // where they begin
};

struct Axis {
  std::vector<Reach> reaches;
  std::vector<int> weights;  // with kBits of fraction
};

// The sources of the results [begin, end) of one axis that goes from `from` pixels to `to`.
Axis axis_of(const Filter& filter, int from, int to, int begin, int end) {
  Axis axis;
  const double scale = static_cast<double>(from) / to;
  const double stretch = std::max(scale, 1.0);  // when shrinking, the filter grows
  const double support = filter.support * stretch, step = 1.0 / stretch;
  std::vector<double> exact;
  for (int place = begin; place < end; ++place) {
    const double centre = (place + 0.5) * scale;
    // Rounded as Pillow rounds it.  NOLINTBEGIN(bugprone-incorrect-roundings)
    const int first = std::max(static_cast<int>(centre - support + 0.5), 0);
    const int count = std::min(static_cast<int>(centre + support + 0.5), from) - first;
    // NOLINTEND(bugprone-incorrect-roundings)
    exact.resize(static_cast<std::size_t>(count));
    double sum = 0;
    for (int i = 0; i < count; ++i) sum += exact[static_cast<std::size_t>(i)] = filter.weight((i + first - centre + 0.5) * step);
    axis.reaches.push_back({first, count, axis.weights.size()});
    for (double weight : exact) {
      if (sum != 0.0) weight /= sum;
      axis.weights.push_back(static_cast<int>((weight < 0 ? -0.5 : 0.5) + weight * (1 << kBits)));
    }
  }
  return axis;
}

// Pillow's steps are added up, not multiplied: the last bits decide which source is taken.
std::vector<int> nearest_of(int from, int to) {
  std::vector<int> sources(static_cast<std::size_t>(to));
  const double scale = static_cast<double>(from) / to;
  double at = scale * 0.5;
  for (int& source : sources) {
    source = static_cast<int>(at);
    at += scale;
  }
  return sources;
}

std::uint8_t clipped(int sum) { return static_cast<std::uint8_t>(std::clamp(sum >> kBits, 0, 255)); }

Picture across(const Picture& picture, const Axis& axis) {
  Picture out(picture.height, static_cast<int>(axis.reaches.size()), picture.channels);
  const int deep = picture.channels;
  for (int y = 0; y < picture.height; ++y) {
    std::uint8_t* to = out.row(y);
    for (const Reach& reach : axis.reaches) {
      const int* weights = axis.weights.data() + reach.weights;
      for (int channel = 0; channel < deep; ++channel) {
        const std::uint8_t* from = picture.row(y) + static_cast<std::ptrdiff_t>(reach.first) * deep + channel;
        int sum = 1 << (kBits - 1);
        for (int i = 0; i < reach.count; ++i) sum += from[i * deep] * weights[i];
        *to++ = clipped(sum);
      }
    }
  }
  return out;
}

Picture down(const Picture& picture, const Axis& axis) {
  Picture out(static_cast<int>(axis.reaches.size()), picture.width, picture.channels);
  const int wide = picture.width * picture.channels;
  std::vector<int> sums(static_cast<std::size_t>(wide));
  for (int y = 0; y < out.height; ++y) {
    const Reach& reach = axis.reaches[static_cast<std::size_t>(y)];
    std::fill(sums.begin(), sums.end(), 1 << (kBits - 1));
    for (int i = 0; i < reach.count; ++i) {
      const int weight = axis.weights[reach.weights + static_cast<std::size_t>(i)];
      const std::uint8_t* from = picture.row(reach.first + i);
      for (int x = 0; x < wide; ++x) sums[static_cast<std::size_t>(x)] += from[x] * weight;
    }
    std::transform(sums.begin(), sums.end(), out.row(y), clipped);
  }
  return out;
}

// The rows and columns of `picture` that the two lists name.
Picture picked(const Picture& picture, const std::vector<int>& rows, const std::vector<int>& columns) {
  Picture out(static_cast<int>(rows.size()), static_cast<int>(columns.size()), picture.channels);
  std::uint8_t* to = out.data.data();
  for (const int y : rows) {
    for (const int x : columns) to = std::copy_n(picture.row(y) + static_cast<std::ptrdiff_t>(x) * picture.channels, picture.channels, to);
  }
  return out;
}

std::vector<int> part_of(std::vector<int> sources, int begin, int count) {
  return {sources.begin() + begin, sources.begin() + begin + count};
}

std::vector<int> every(int first, int count) {
  std::vector<int> sources(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) sources[static_cast<std::size_t>(i)] = first + i;
  return sources;
}

}  // namespace

bool is_interpolation(const std::string& name) {
  return std::any_of(std::begin(kFilters), std::end(kFilters), [&](const Filter& filter) { return filter.name == name; });
}

Picture resize(const Picture& picture, int height, int width, const std::string& interpolation, const Window& window) {
  const Filter& filter = filter_of(interpolation);
  const bool wider = width != picture.width, taller = height != picture.height;
  if (filter.weight == nullptr || !(wider || taller)) {
    const auto columns = wider ? part_of(nearest_of(picture.width, width), window.left, window.width) : every(window.left, window.width);
    const auto rows = taller ? part_of(nearest_of(picture.height, height), window.top, window.height) : every(window.top, window.height);
    return picked(picture, rows, columns);
  }
  const Picture first = wider ? across(picture, axis_of(filter, picture.width, width, window.left, window.left + window.width))
                              : picked(picture, every(0, picture.height), every(window.left, window.width));
  if (taller) return down(first, axis_of(filter, picture.height, height, window.top, window.top + window.height));
  return picked(first, every(window.top, window.height), every(0, window.width));
}

}  // namespace vitrail
