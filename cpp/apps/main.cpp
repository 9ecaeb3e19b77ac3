// vitrail-cpp: a bundle on pictures, without Python.

#include <csignal>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <new>

#include "arguments.hpp"

namespace {

using namespace vitrail::app;

constexpr char kHelp[] =
    "vitrail-cpp: bundles of vitrail, in C++\n"
    "\n"
    "  vitrail-cpp classify BUNDLE PICTURE...       name what is on pictures      --top 5 --json\n"
    "  vitrail-cpp evaluate BUNDLE DATA             top-1 and top-5               --batch 64 --json\n"
    "      DATA: a folder of class folders, or of pictures with val_label.txt in it or beside it\n"
    "  vitrail-cpp benchmark BUNDLE                 time of one answer            --batch 1 --rounds 100 --warm 10 --json\n"
    "  vitrail-cpp compare BUNDLE [REFERENCE]       the same answers?             --picture FILE | --image-size N|H,W --batch 1\n"
    "                                               --seed 0 --atol 0.001 --rtol 1e-5\n"
    "                                               --reference-engine NAME --reference-precision f32\n"
    "      without a REFERENCE or another --precision: beside the other engine\n"
    "  vitrail-cpp offline BUNDLE DATA OUT          answers as files              --dataset cifar10|imagenet2012\n"
    "      DATA: a folder of .bin records, or of class folders of pictures\n"
    "\n"
    "All: --engine auto|openvino|onnx (ONNX Runtime)|torchscript|aoti, each with -fp32, -bf16, -fp16 or -int8, or a graph\n"
    "     of the bundle by its name; --precision f32|bf16|f16: what OpenVINO computes in; --threads 0 (every core);\n"
    "     --trust: run programs (torchscript, aoti) that were not made on this machine\n"
    "Exit codes: 0 done, 2 refused, 4 fault of disk, memory or system, 5 the answers differ, 6 NaN or Inf, 70 a bug\n";

struct Verb {
  const char* name;
  int (*run)(const Arguments&);
  std::set<std::string> options, flags;
};

const std::vector<Verb>& verbs() {
  static const std::vector<Verb> all = {
      {"classify", classify, with_engine({"--top", "--batch"}), {"--json", "--trust"}},
      {"evaluate", evaluate, with_engine({"--batch"}), {"--json", "--trust"}},
      {"benchmark", benchmark, with_engine({"--batch", "--rounds", "--warm"}), {"--json", "--trust"}},
      {"compare", compare, with_engine({"--picture", "--image-size", "--batch", "--seed", "--atol", "--rtol", "--reference-engine", "--reference-precision"}), {"--json", "--trust"}},
      {"offline", offline, with_engine({"--dataset"}), {"--trust"}},
  };
  return all;
}

int run(int count, char** words) {
  if (count < 2 || std::strcmp(words[1], "--help") == 0 || std::strcmp(words[1], "-h") == 0) {
    std::fputs(kHelp, count < 2 ? stderr : stdout);
    return count < 2 ? 2 : 0;
  }
  if (std::strcmp(words[1], "--version") == 0) return std::puts("vitrail-cpp " VITRAIL_VERSION), 0;
  for (const Verb& verb : verbs()) {
    if (std::strcmp(words[1], verb.name) == 0) return verb.run(Arguments(count - 2, words + 2, verb.options, verb.flags));
  }
  throw usage(std::string("no verb is called `") + words[1] + "`");
}

}  // namespace

int main(int count, char** words) {
  std::signal(SIGPIPE, SIG_IGN);  // whoever closes our output early gets an exit code, not a signal
  try {
    const int code = run(count, words);
    if (std::fflush(stdout) != 0) throw vitrail::write_fault(errno, "standard output");
    return code;
  } catch (const vitrail::Error& error) {
    std::fflush(stdout);
    std::fprintf(stderr, "%s\n", error.what());
    return error.exit_code();
  } catch (const std::bad_alloc&) {
    std::fputs("error[V703]: not enough memory\n\nhint: close other programs, or take a smaller --batch\n", stderr);
    return 4;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "a bug of vitrail-cpp: %s\n", error.what());
    return 70;
  }
}
