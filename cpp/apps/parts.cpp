// For tests: what single parts of the library give, one line of answer for each line of stdin, in hashes and codes.
//
//   vitrail-parts decode     channels PATH                                     height width channels sha256
//   vitrail-parts prepare    mode interpolation H W crop mean,.. std,.. PATH   height width sha256-of-pixels sha256-of-floats
//   vitrail-parts manifest   PATH of a manifest alone                          ok and its digest
//   vitrail-parts bundle     FOLDER                                            ok and its digest; `graph`: with a look
//                                                                              at its first graph; `open`: on an engine
// A refusal gives its code, and what it says.

#include <cstdio>
#include <iostream>
#include <new>
#include <sstream>

#include "graph.hpp"
#include "model.hpp"
#include "sha256.hpp"

namespace {

using vitrail::Picture;

std::string_view bytes_of(const void* data, std::size_t size) { return {static_cast<const char*>(data), size}; }

std::string rest_of(std::istream& line) {
  std::string path;
  std::getline(line >> std::ws, path);
  return path;
}

std::vector<double> numbers_of(const std::string& list) {
  std::vector<double> found;
  std::stringstream parts(list);
  for (std::string part; std::getline(parts, part, ',');) found.push_back(std::strtod(part.c_str(), nullptr));
  return found;
}

std::string decoded(std::istream& line) {
  int channels = 0;
  line >> channels;
  const Picture picture = vitrail::decode_file(rest_of(line), channels);
  return std::to_string(picture.height) + " " + std::to_string(picture.width) + " " + vitrail::sha256(bytes_of(picture.data.data(), picture.data.size()));
}

std::string prepared(std::istream& line) {
  vitrail::Policy policy;
  std::string crop, mean, deviation;
  line >> policy.mode >> policy.interpolation >> policy.height >> policy.width >> crop >> mean >> deviation;
  policy.crop = std::strtod(crop.c_str(), nullptr);
  policy.mean = numbers_of(mean);
  policy.deviation = numbers_of(deviation);
  if (const std::string problem = policy.problem(); !problem.empty()) throw vitrail::bad_manifest(problem);
  const std::string path = rest_of(line);
  const Picture pixels = policy.pixels(vitrail::decode_file(path, policy.channels()), "`" + path + "`");
  std::vector<float> input(pixels.data.size());
  policy.normalise(pixels, input.data());
  return vitrail::sha256(bytes_of(pixels.data.data(), pixels.data.size())) + " " + vitrail::sha256(bytes_of(input.data(), 4 * input.size()));
}

std::string manifest(std::istream& line) {
  return "ok " + vitrail::read_manifest(vitrail::picture_bytes(rest_of(line))).digest;
}

std::string bundle(std::istream& line) {
  const auto none = [](const vitrail::Manifest&) { return std::vector<std::string>(); };
  return "ok " + vitrail::open_checked(rest_of(line), none).manifest.digest;
}

// The first ONNX graph of a bundle, looked at as before an engine sees it.
std::string graph(std::istream& line) {
  const auto first = [](const vitrail::Manifest& manifest) { return std::vector<std::string>{manifest.engines.at(0).file}; };
  const vitrail::CheckedBundle checked = vitrail::open_checked(rest_of(line), first);
  const vitrail::EngineEntry& entry = checked.manifest.engines.at(0);
  vitrail::check_graph(checked.kept.at(0), checked.manifest, entry);
  return "ok " + checked.manifest.digest;
}

std::string opened(std::istream& line) { return "ok " + vitrail::Model(rest_of(line), "auto", {1, "", false}).manifest().digest; }

}  // namespace

int main() {
  for (std::string text; std::getline(std::cin, text);) {
    std::istringstream line(text);
    std::string verb;
    line >> verb;
    try {
      if (verb == "decode") text = decoded(line);
      if (verb == "prepare") text = prepared(line);
      if (verb == "manifest") text = manifest(line);
      if (verb == "bundle") text = bundle(line);
      if (verb == "graph") text = graph(line);
      if (verb == "open") text = opened(line);
    } catch (const vitrail::Error& error) {
      text = error.code() + " " + error.first_line();
    } catch (const std::bad_alloc&) {
      text = "V703 no memory";
    }
    std::cout << text << std::endl;
  }
}
