#include "sha256.hpp"

#include <openssl/evp.h>

#include <new>

#include "error.hpp"

namespace vitrail {

namespace {
// SHA-256 itself, fetched when this library is loaded and memory is not short: OpenSSL 3 dies where its first fetch finds
// none.
EVP_MD* const kMethod = EVP_MD_fetch(nullptr, "SHA256", nullptr);

void check(int done) {
  if (done != 1) throw std::bad_alloc();  // there is no other way in which hashing of memory fails
}
}  // namespace

void Sha256::Free::operator()(evp_md_ctx_st* context) const noexcept { EVP_MD_CTX_free(context); }

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  if (kMethod == nullptr) throw Error("V003", "this needs SHA-256, which OpenSSL lacks here", {}, "check its configuration");
  if (!context_) throw std::bad_alloc();
  check(EVP_DigestInit_ex(context_.get(), kMethod, nullptr));
}

void Sha256::update(const void* data, std::size_t size) { check(EVP_DigestUpdate(context_.get(), data, size)); }

std::string Sha256::hex() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  check(EVP_DigestFinal_ex(context_.get(), digest, &size));
  std::string out;
  for (unsigned int i = 0; i < size; ++i) {
    out += {"0123456789abcdef"[digest[i] >> 4], "0123456789abcdef"[digest[i] & 15]};
  }
  return out;
}

std::string sha256(std::string_view data) {
  Sha256 hash;
  hash.update(data.data(), data.size());
  return hash.hex();
}

}  // namespace vitrail
