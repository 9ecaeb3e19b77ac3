// What libvitrail_torch.so gives, which alone is linked to LibTorch and is opened when a program of torch is asked for.
// Whatever it throws is a std::exception.
#pragma once

#include <set>
#include <string>

#include "runner.hpp"

namespace vitrail {

struct Program {
  const std::string& data;
  bool native;               // of AOTInductor, else TorchScript
  int threads;               // 0: every core
  std::vector<std::int64_t> one;  // the shape of one picture, with the 1 in front
  bool pixels;
  std::size_t classes;
  std::int64_t top;  // best classes that it names beside its logits, 0: none
};

struct Seen {  // of a TorchScript program; machine code says nothing of itself
  std::set<std::string> kinds;  // of all operations in it
  std::set<std::string> gelu;
  std::set<double> layernorm_eps, groupnorm_eps;
  std::string about;            // JSON that travels in it
};

using OpenProgram = Runner* (*)(const Program& program, Seen& seen);
constexpr char kOpenProgram[] = "vitrail_torch_open";

}  // namespace vitrail
