// The program of the model zoo's offline flow: answers as files, named and laid out as its scripts read them, and as
// `vitrail offline infer` writes them.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>

#include "arguments.hpp"
#include "data.hpp"
#include "text.hpp"

namespace vitrail::app {

namespace fs = std::filesystem;

namespace {

struct Input {
  std::string path, result;  // result: the name of its file of answers
};

std::vector<Input> named(const std::vector<std::string>& paths) {
  std::map<std::string, std::string> seen;
  std::vector<Input> inputs;
  for (const auto& path : paths) {
    const std::string name = fs::path(path).filename();
    const std::string result = name.substr(0, name.find('.')) + "_0.bin";
    if (const auto [other, fresh] = seen.emplace(result, path); !fresh) {
      throw Error("V404", "two files would have one result, `" + result + "`", {other->second, path}, "rename one: a result is called as its picture, up to the first dot");
    }
    inputs.push_back({path, result});
  }
  return inputs;
}

// A record: one normalised picture, float32 (C, H, W).
std::vector<float> record_of(const std::string& path, const Policy& policy) {
  const std::size_t count = static_cast<std::size_t>(policy.height) * policy.width * policy.channels();
  std::vector<float> images(count);
  std::error_code error;
  const std::uintmax_t size = fs::file_size(path, error);
  if (error) throw read_fault(error.value(), path);
  std::ifstream file(path, std::ios::binary);
  file.read(reinterpret_cast<char*>(images.data()), static_cast<std::streamsize>(4 * count));
  if (size != 4 * count || static_cast<std::size_t>(file.gcount()) != 4 * count) {
    throw Error("V404", "`" + path + "` is no record: it has " + std::to_string(size) + " bytes, one has " + std::to_string(4 * count), {}, "pack the pictures again for this model");
  }
  check_finite(images, "the numbers of `" + path + "`", "pack the pictures again");  // some engines answer NaN well
  return images;
}

void write(const fs::path& path, const void* data, std::size_t size) {
  std::ofstream file(path, std::ios::binary);
  file.write(static_cast<const char*>(data), static_cast<std::streamsize>(size));
  file.close();
  if (!file) throw write_fault(errno, path.string());
}

void make(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw write_fault(error.value(), folder.string());
}

class Aside {  // a folder that gets its name when all of it is written, and is gone else
 public:
  explicit Aside(const fs::path& wanted) : wanted_(wanted), path_(wanted.string() + ".part") {
    fs::remove_all(path_);
    make(path_);
  }
  Aside(const Aside&) = delete;
  Aside& operator=(const Aside&) = delete;
  ~Aside() {
    std::error_code error;
    fs::remove_all(path_, error);
  }
  const fs::path& path() const { return path_; }
  void keep() {
    std::error_code error;
    fs::rename(path_, wanted_, error);
    if (error) throw write_fault(error.value(), wanted_.string());
  }

 private:
  fs::path wanted_, path_;
};

}  // namespace

int offline(const Arguments& arguments) {
  if (arguments.words().size() != 3) throw usage("offline takes a BUNDLE, DATA and OUT");
  std::string dataset = arguments.text("--dataset", "");
  std::transform(dataset.begin(), dataset.end(), dataset.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (dataset != "cifar10" && dataset != "imagenet2012") throw usage("--dataset is cifar10 or imagenet2012");
  const fs::path out = arguments.words()[2], results = out / "result_Files", times = out / "time_Result";
  std::error_code error;
  if (fs::exists(results, error)) throw Error("V006", "`" + results.string() + "` is there already", {}, "give a new folder, or remove it");
  const Model model = open_model(arguments.words()[0], arguments);
  const Policy& policy = model.manifest().policy;
  const bool records = dataset == "cifar10";
  std::string place = arguments.words()[1];
  if (records && fs::is_directory(place + "/img_data", error)) place += "/img_data";
  const std::vector<Input> inputs = named(records ? files_in(place) : pictures_below(place));
  make(times);
  Aside aside(results);
  double milliseconds = 0;
  for (const Input& input : inputs) {
    std::printf("Start predict input files:%s\n", printable(input.path).c_str());
    Batch batch = model.batch();
    if (records) {
      batch.add_images(record_of(input.path, policy).data(), 1);
    } else {
      batch.add(policy.pixels(decode_file(input.path, policy.channels()), "`" + input.path + "`"));
    }
    const auto start = std::chrono::steady_clock::now();
    const std::vector<float> logits = model.logits(batch);
    milliseconds += std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    check_logits(logits, "`" + input.path + "`");
    write(aside.path() / input.result, logits.data(), 4 * logits.size());
  }
  char line[160];
  const double mean = milliseconds / static_cast<double>(inputs.size());
  const int size = std::snprintf(line, sizeof line, "NN inference cost average time: %g ms of infer_count %zu\n", mean, inputs.size());
  write(times / "test_perform_static.txt", line, static_cast<std::size_t>(size));
  aside.keep();
  std::printf("NN inference cost average time: %gms of infer_count %zu\n", mean, inputs.size());
  return 0;
}

}  // namespace vitrail::app
