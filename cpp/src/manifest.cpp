#include "manifest.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include "sha256.hpp"
#include "text.hpp"

namespace vitrail {

namespace {

using json::Object;
using json::Value;

constexpr std::int64_t kMajor = 1, kMinor = 1;  // the newest version that is known here
constexpr std::int64_t kMaxFileBytes = std::int64_t{64} << 30;
constexpr std::size_t kMaxFiles = 4096, kMaxClasses = 1 << 20, kMaxText = 200;
constexpr int kMaxImage = 4096;

using Names = std::vector<std::string_view>;

bool in(std::string_view word, const Names& known) { return std::find(known.begin(), known.end(), word) != known.end(); }

// `value` as an object with every known key and no other but the optional ones.
const Object& take(const Value& value, const std::string& where, const Names& known, const Names& optional = {}) {
  const Object* object = value.object();
  if (object == nullptr) throw bad_manifest(where + " is no object");
  for (const auto& key : known) {
    if (json::find(*object, key) == nullptr) throw bad_manifest(where + " lacks `" + std::string(key) + "`");
  }
  for (const auto& [key, item] : *object) {
    if (!in(key, known) && !in(key, optional)) throw bad_manifest(where + " holds the unknown key `" + key + "`");
  }
  return *object;
}

const Value& get(const Object& object, std::string_view key) { return *json::find(object, key); }

const Object& object_of(const Object& object, std::string_view key) {
  const Object* found = get(object, key).object();
  if (found == nullptr) throw bad_manifest(std::string(key) + " is no object");
  return *found;
}

std::string text_of(const Value& value, const std::string& where) {
  const std::string* text = value.text();
  if (text == nullptr || text->empty() || length(*text) > kMaxText || !is_printable(*text)) {
    throw bad_manifest(where + " must be 1 to 200 printable characters");
  }
  return *text;
}

std::string choice(const Value& value, const Names& known, const std::string& where) {
  const std::string* text = value.text();
  if (text == nullptr || !in(*text, known)) throw bad_manifest(where + " is none of the known words");
  return *text;
}

void check_texts(const Value& value, const std::string& where) {
  const Object* object = value.object();
  if (object == nullptr) throw bad_manifest(where + " is no object");
  for (const auto& [name, item] : *object) {
    text_of({name}, where);
    text_of(item, where + "." + name);
  }
}

bool is_hash(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// The two numbers of `MAJOR.MINOR`, each of one to six digits.
bool version_of(std::string_view text, std::int64_t& major, std::int64_t& minor) {
  const std::size_t dot = text.find('.');
  const auto whole = [](std::string_view digits, std::int64_t& number) {
    if (digits.empty() || digits.size() > 6 || digits.find_first_not_of("0123456789") != std::string_view::npos) return false;
    number = std::stoll(std::string(digits));
    return true;
  };
  return dot != std::string_view::npos && whole(text.substr(0, dot), major) && whole(text.substr(dot + 1), minor);
}

bool newer_minor(const Object& all) {
  const Value* value = json::find(all, "format");
  std::int64_t major = 0, minor = 0;
  if (value == nullptr || value->text() == nullptr || !version_of(*value->text(), major, minor)) {
    throw bad_manifest("the manifest names no format version");
  }
  if (major != kMajor) {
    throw bad_manifest("the bundle is of format " + *value->text() + ", this vitrail reads 1.1",
                       major > kMajor ? "use a newer vitrail" : "make the bundle again with this vitrail");
  }
  return minor > kMinor;
}

// The digest is the hash of the file without its own line.
void check_digest(std::string_view data, const Value& digest) {
  static constexpr std::string_view kStart = "\n \"digest\": \"";
  constexpr std::size_t kLine = kStart.size() - 1 + 64 + 3;  // up to and with `",` and the end of the line
  const std::size_t at = data.find(kStart);
  const bool there = at != std::string_view::npos && data.size() - at > kLine &&
                     is_hash(data.substr(at + kStart.size(), 64)) && data.substr(at + kStart.size() + 64, 3) == "\",\n";
  if (!there || digest.text() == nullptr) throw bad_manifest("the manifest has no digest");
  Sha256 hash;
  hash.update(data.data(), at + 1);
  hash.update(data.data() + at + 1 + kLine, data.size() - at - 1 - kLine);
  const std::string found = hash.hex();
  if (found != *digest.text()) {
    throw Error("V501", "the manifest differs from its own digest, so it was edited or damaged",
                {"written " + *digest.text(), "found   " + found}, "make the bundle again from its weights");
  }
}

std::vector<double> numbers_of(const Value& value, const std::string& where) {
  std::vector<double> found;
  if (value.list() == nullptr) throw bad_manifest("policy: " + where + " is no list of numbers");
  for (const auto& item : *value.list()) {
    if (!item.is_number(found.emplace_back())) throw bad_manifest("policy: " + where + " is no list of numbers");
  }
  return found;
}

int side_of(const Value& value, const char* where) {
  const std::int64_t* side = value.integer();
  if (side == nullptr || *side < 1 || *side > kMaxImage) {
    throw bad_manifest(std::string(where) + " is not height and width of 1 to 4096");
  }
  return static_cast<int>(*side);
}

Policy policy_of(const Value& value) {
  const Object& item = take(value, "policy", {"size", "mode", "crop", "interpolation", "mean", "std"});
  Policy policy;
  const auto* size = get(item, "size").list();
  if (size == nullptr || size->size() != 2) throw bad_manifest("policy: size is no list of two whole numbers");
  policy.height = side_of((*size)[0], "policy: size");
  policy.width = side_of((*size)[1], "policy: size");
  if (!get(item, "crop").is_number(policy.crop)) throw bad_manifest("policy: crop is no number");
  policy.mode = get(item, "mode").text() != nullptr ? *get(item, "mode").text() : "";
  policy.interpolation = get(item, "interpolation").text() != nullptr ? *get(item, "interpolation").text() : "";
  policy.mean = numbers_of(get(item, "mean"), "mean");
  policy.deviation = numbers_of(get(item, "std"), "std");
  if (const std::string problem = policy.problem(); !problem.empty()) throw bad_manifest("the policy does not hold: " + problem);
  return policy;
}

std::vector<std::string> classes_of(const Value& value) {
  std::vector<std::string> found;
  const auto* list = value.list();
  if (list == nullptr || list->empty() || list->size() > kMaxClasses) throw bad_manifest("classes is no list of 1 to 1048576 names");
  for (const auto& item : *list) {
    const std::string* text = item.text();
    if (text == nullptr || text->empty() || length(*text) > 512) throw bad_manifest("classes is no list of names of 1 to 512 characters");
    found.push_back(*text);
  }
  return found;
}

FileEntry file_of(const std::string& name, const Value& value) {
  const Object& item = take(value, "files." + name, {"size", "sha256"});
  const auto* size = get(item, "size").integer();
  const auto* hash = get(item, "sha256").text();
  if (size == nullptr || hash == nullptr || *size < 0 || *size > kMaxFileBytes || !is_hash(*hash)) {
    throw bad_manifest("size or SHA-256 of `" + name + "` is none");
  }
  return {name, *size, *hash};
}

EngineEntry engine_of(const std::string& name, const Value& value) {
  const std::string where = "engines." + name;
  const Object& item = take(value, where, {"file", "format", "precision", "opset", "input", "output", "facts", "tools"}, {"takes", "batch", "top"});
  const auto* opset = get(item, "opset").integer();
  if (!get(item, "opset").null() && (opset == nullptr || *opset < 1 || *opset > 1000)) throw bad_manifest(where + ".opset is none");
  EngineEntry engine;
  engine.name = name;
  engine.file = text_of(get(item, "file"), where + ".file");
  engine.format = text_of(get(item, "format"), where + ".format");
  engine.precision = choice(get(item, "precision"), {"fp32", "fp16", "bf16", "int8"}, where + ".precision");
  engine.input = text_of(get(item, "input"), where + ".input");
  engine.output = text_of(get(item, "output"), where + ".output");
  engine.facts = object_of(item, "facts");
  check_texts(get(item, "tools"), where + ".tools");
  if (const Value* takes = json::find(item, "takes")) engine.takes = choice(*takes, {"images", "pixels"}, where + ".takes");
  const auto number = [&](const char* key, std::int64_t most, std::int64_t& into) {
    const Value* found = json::find(item, key);
    if (found == nullptr || found->null()) return;
    if (found->integer() == nullptr || *found->integer() < 1 || *found->integer() > most) throw bad_manifest(where + "." + key + " is none");
    into = *found->integer();
  };
  number("batch", 1 << 16, engine.batch);
  number("top", 1 << 20, engine.top);
  return engine;
}

bool is_engine_name(std::string_view name) {
  static constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz0123456789";
  return !name.empty() && name.size() <= 64 && kLetters.find(name[0]) != std::string_view::npos &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_-") == std::string_view::npos;
}

void check_network(const Manifest& manifest) {
  const Value* size = json::find(manifest.config, "image_size");
  const Value* classes = json::find(manifest.config, "classes");
  const Value* channels = json::find(manifest.config, "channels");
  if (size == nullptr || classes == nullptr || channels == nullptr || size->list() == nullptr || size->list()->size() != 2 ||
      classes->integer() == nullptr || channels->integer() == nullptr) {
    throw bad_manifest("the config names no image_size, channels and classes");
  }
  if (*classes->integer() != static_cast<std::int64_t>(manifest.classes.size())) {
    throw bad_manifest(std::to_string(manifest.classes.size()) + " classes are named, the head has " + std::to_string(*classes->integer()));
  }
  if (side_of((*size->list())[0], "image_size") != manifest.policy.height || side_of((*size->list())[1], "image_size") != manifest.policy.width ||
      *channels->integer() != manifest.policy.channels()) {
    throw bad_manifest("the policy makes pictures of another size or number of channels than the network takes");
  }
}

void check_files(const Manifest& manifest) {
  if (manifest.files.size() > kMaxFiles) throw bad_manifest("more than 4096 files");
  std::set<std::string> seen;
  for (const auto& entry : manifest.files) {
    if (!seen.insert(casefold(entry.name)).second || entry.name == kManifestName || length(entry.name) > 512) {
      throw bad_manifest("`" + entry.name.substr(0, 80) + "` cannot be the name of a file of the bundle");
    }
  }
  for (const auto& engine : manifest.engines) {
    if (!is_engine_name(engine.name) || manifest.file(engine.file) == nullptr) {
      throw bad_manifest("the engine `" + engine.name.substr(0, 80) + "` has no file in the bundle");
    }
    if (engine.top > static_cast<std::int64_t>(manifest.classes.size())) throw bad_manifest("the engine `" + engine.name + "` names more classes than there are");
    const std::string form = engine.format + "-" + engine.precision;
    if (engine.name != form && engine.name.compare(0, form.size() + 1, form + "-") != 0) {  // or it could stand for another
      throw bad_manifest("the engine `" + engine.name + "` is of " + form.substr(0, 80) + ", and must be called so");
    }
  }
}

}  // namespace

Error bad_manifest(const std::string& what, const std::string& hint) { return Error("V501", what, {}, hint); }

const FileEntry* Manifest::file(std::string_view name) const {
  const auto at = std::find_if(files.begin(), files.end(), [&](const FileEntry& entry) { return entry.name == name; });
  return at == files.end() ? nullptr : &*at;
}

Manifest read_manifest(std::string_view data) {
  if (data.size() > kManifestBytes) throw bad_manifest("the manifest has more than 16777216 bytes");
  const Object all = json::parse_canonical(data, "the manifest");
  static const Names kKeys = {"format", "family", "variant", "config", "policy", "classes", "weights", "weights_sha256", "files",
                              "engines", "provenance", "licences", "tools", "digest"};
  Object own;
  const bool newer = newer_minor(all);
  for (const auto& entry : all) {
    if (in(entry.first, kKeys) || !newer) own.push_back(entry);
  }
  take({own}, "the manifest", kKeys);
  check_digest(data, get(own, "digest"));

  Manifest manifest;
  manifest.format = *get(own, "format").text();
  manifest.digest = *get(own, "digest").text();
  const auto* family = get(own, "family").text();
  if (family == nullptr) throw bad_manifest("family is no text");
  manifest.family = *family;
  manifest.config = object_of(own, "config");
  check_config(manifest.family, manifest.config);
  manifest.policy = policy_of(get(own, "policy"));
  manifest.classes = classes_of(get(own, "classes"));
  manifest.weights = choice(get(own, "weights"), {"trained", "random"}, "weights");
  if (!is_hash(text_of(get(own, "weights_sha256"), "weights_sha256"))) throw bad_manifest("weights_sha256 is no SHA-256 in lower-case hex");
  if (!get(own, "variant").null()) text_of(get(own, "variant"), "variant");
  for (const auto& [name, item] : object_of(own, "files")) manifest.files.push_back(file_of(name, item));
  for (const auto& [name, item] : object_of(own, "engines")) manifest.engines.push_back(engine_of(name, item));
  object_of(own, "provenance");
  const Object& licences = take(get(own, "licences"), "licences", {"weights", "data"});
  for (const auto& [name, item] : licences) text_of(item, "licences." + name);
  check_texts(get(own, "tools"), "tools");
  check_network(manifest);
  check_files(manifest);
  return manifest;
}

}  // namespace vitrail
