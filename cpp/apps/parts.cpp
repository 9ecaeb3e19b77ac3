// For tests: what single parts of the library give, one line of answer for each line of stdin, in hashes and codes.
//
//   vitrail-parts decode     channels PATH                                     height width channels sha256
//   vitrail-parts prepare    mode interpolation H W crop mean,.. std,.. PATH   height width sha256-of-pixels sha256-of-floats
//   vitrail-parts manifest   PATH of a manifest alone                          ok and its digest
//   vitrail-parts bundle     FOLDER                                            ok and its digest; `graph`: with a look
//                                                                              at its first graph; `open`: on an engine
//   vitrail-parts fail       N once|on QUESTION       the same, while the N-th allocation fails: `failed` or `held`, and the
//                                                     answer (with checks/failing.cpp preloaded)
//   vitrail-parts break      N once|on ERRNO QUESTION  the same of the N-th call to the disk; errno 0: nothing is read
//   vitrail-parts together   THREADS TIMES QUESTION   the same by many threads at once: `alike` and the answer, or `unlike`
// A refusal gives its code, and what it says.

#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <new>
#include <sstream>
#include <thread>

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

std::string answer(std::istream& line) {
  std::string verb;
  line >> verb;
  try {
    if (verb == "decode") return decoded(line);
    if (verb == "prepare") return prepared(line);
    if (verb == "manifest") return manifest(line);
    if (verb == "bundle") return bundle(line);
    if (verb == "graph") return graph(line);
    if (verb == "open") return opened(line);
  } catch (const vitrail::Error& error) {
    return error.code() + " " + error.first_line();
  } catch (const std::bad_alloc&) {
    return "V703 no memory";
  }
  return "no such question";
}

std::string failing(std::istream& line, bool disk) {
  static const auto fail = reinterpret_cast<long (*)(long, int)>(dlsym(RTLD_DEFAULT, "vitrail_fail"));
  static const auto damage = reinterpret_cast<long (*)(long, int, int)>(dlsym(RTLD_DEFAULT, "vitrail_break"));
  long number = 0;
  int why = 0;
  std::string how, found;
  line >> number >> how;
  if (disk) line >> why;
  disk ? damage(number, how == "on" ? 1 : 0, why) : fail(number, how == "on" ? 1 : 0);
  try {
    found = answer(line);
  } catch (const std::bad_alloc&) {  // of the words of an answer
    found = "V703 no memory";
  }
  return ((disk ? damage(-1, 0, 0) : fail(-1, 0)) != 0 ? "failed " : "held ") + found;
}

std::string together(std::istream& line) {
  std::size_t threads = 0, times = 0;
  line >> threads >> times;
  const std::string question = rest_of(line);
  const auto ask = [&] {
    std::istringstream one(question);
    return answer(one);
  };
  const std::string expected = ask();
  std::vector<int> wrong(threads, 0);
  std::vector<std::thread> all;
  for (std::size_t which = 0; which < threads; ++which) {
    all.emplace_back([&, which] {
      for (std::size_t time = 0; time < times; ++time) wrong[which] += ask() == expected ? 0 : 1;
    });
  }
  for (auto& thread : all) thread.join();
  const bool alike = std::all_of(wrong.begin(), wrong.end(), [](int count) { return count == 0; });
  return (alike ? "alike " : "unlike ") + expected;
}

}  // namespace

int main() {
  for (std::string text; std::getline(std::cin, text);) {
    std::istringstream line(text);
    line.exceptions(std::ios::badbit);  // memory that a stream lacks is not swallowed
    std::string how;
    const auto start = line.tellg();
    line >> how;
    const bool fails = how == "fail" || how == "break";
    if (!fails && how != "together") line.seekg(start);
    std::cout << (fails ? failing(line, how == "break") : how == "together" ? together(line) : answer(line)) << std::endl;
  }
}
