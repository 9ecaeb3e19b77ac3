// How long one answer takes: 10 calls to warm up, 100 that are timed one by one.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "arguments.hpp"

namespace vitrail::app {

namespace {

// As NumPy's percentile: linear between the two nearest.
double percentile(const std::vector<double>& sorted, double share) {
  const double place = share * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<std::size_t>(std::floor(place));
  const std::size_t high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (sorted[high] - sorted[low]) * (place - std::floor(place));
}

}  // namespace

int benchmark(const Arguments& arguments) {
  if (arguments.words().size() != 1) throw usage("benchmark takes one BUNDLE");
  const int pictures = arguments.whole("--batch", 1, 1, 65536);
  const int rounds = arguments.whole("--rounds", 100, 1, 1'000'000), warm = arguments.whole("--warm", 10, 0, 1'000'000);
  using Clock = std::chrono::steady_clock;
  const auto since = [](Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); };
  const auto opening = Clock::now();
  const Model model = open_model(arguments.words()[0], arguments, pictures);
  Batch batch = model.batch();
  const Policy& policy = model.manifest().policy;
  for (int i = 0; i < pictures; ++i) batch.add(Picture(policy.height, policy.width, policy.channels()));  // black
  model.logits(batch);
  const double first = since(opening);
  std::vector<double> seconds;
  for (int round = 0; round < warm + rounds; ++round) {
    const auto start = Clock::now();
    model.logits(batch);
    if (round >= warm) seconds.push_back(since(start));
  }
  const double mean = std::accumulate(seconds.begin(), seconds.end(), 0.0) / static_cast<double>(seconds.size());
  std::sort(seconds.begin(), seconds.end());
  const double p50 = percentile(seconds, 0.5), p90 = percentile(seconds, 0.9), p99 = percentile(seconds, 0.99);
  if (arguments.has("--json")) {
    std::printf("{\n \"engine\": %s,\n \"batch\": %d,\n \"rounds\": %zu,\n \"p50_s\": %s,\n \"p90_s\": %s,\n \"p99_s\": %s,\n \"fps\": %s,\n \"first_s\": %s\n}\n",
                json::quoted(model.engine()).c_str(), pictures, seconds.size(), json::number(p50).c_str(), json::number(p90).c_str(),
                json::number(p99).c_str(), json::number(pictures / mean).c_str(), json::number(first).c_str());
    return 0;
  }
  std::printf("%s, batch %d: p50 %.3f ms, p90 %.3f ms, p99 %.3f ms over %zu calls after %d to warm up; opened and answered once in %.2f s\n",
              model.engine().c_str(), pictures, 1e3 * p50, 1e3 * p90, 1e3 * p99, seconds.size(), warm, first);
  std::printf("FPS: %.2f\n", pictures / mean);
  return 0;
}

}  // namespace vitrail::app
