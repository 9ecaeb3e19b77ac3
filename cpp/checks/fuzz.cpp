// A fuzzer with coverage: vitrail-fuzz-picture, -manifest and -graph, of libFuzzer. A refusal is an answer; a crash, a
// hang, a leak or too much memory is none. The first byte of a picture chooses how it is asked for.

#include <cstdint>
#include <new>
#include <string_view>

#include "decode.hpp"
#include "graph.hpp"
#include "manifest.hpp"

namespace {

using std::string_view;

[[maybe_unused]] void picture(string_view data) {
  if (data.empty()) return;
  const unsigned char how = static_cast<unsigned char>(data[0]);
  const int channels = (how & 1) != 0 ? 1 : 3;
  vitrail::Policy policy;
  policy.mode = (how & 2) != 0 ? "squash" : "crop";
  policy.interpolation = (how & 4) != 0 ? "bicubic" : (how & 8) != 0 ? "lanczos" : "bilinear";
  policy.height = 1 + (how >> 4);
  policy.width = 9;
  policy.mean = policy.deviation = std::vector<double>(static_cast<std::size_t>(channels), 0.5);
  const vitrail::Picture stored = vitrail::decode(data.substr(1), "picture", channels);
  if (stored.data.size() <= 1u << 22) policy.pixels(stored, "picture");
}

[[maybe_unused]] void manifest(string_view data) { vitrail::read_manifest(data); }

[[maybe_unused]] void graph(string_view data) { vitrail::onnx::check_sizes(vitrail::onnx::read(data)); }

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    VITRAIL_FUZZED({reinterpret_cast<const char*>(data), size});
  } catch (const vitrail::Error&) {
    return 0;
  } catch (const std::bad_alloc&) {
    return 0;
  }
  return 0;
}
