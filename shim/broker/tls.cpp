#include "shim/broker/tls.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include <cstdint>
#include <cstring>

namespace elsewhere::broker {
namespace {

int SocketOf(BIO* bio) {
  return static_cast<int>(reinterpret_cast<intptr_t>(BIO_get_data(bio)));
}

// OpenSSL's own socket BIO calls write(), which raises SIGPIPE in a launcher that must not ignore it for
// COMMAND.
int BioWrite(BIO* bio, const char* bytes, int size) {
  BIO_clear_retry_flags(bio);
  const ssize_t sent = send(SocketOf(bio), bytes, static_cast<size_t>(size), MSG_NOSIGNAL);
  if (sent < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_write(bio);
  return static_cast<int>(sent);
}

int BioRead(BIO* bio, char* buffer, int size) {
  BIO_clear_retry_flags(bio);
  const ssize_t got = recv(SocketOf(bio), buffer, static_cast<size_t>(size), 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_read(bio);
  return static_cast<int>(got);
}

long BioControl(BIO*, int command, long, void*) {
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

BIO_METHOD* SocketMethod() {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket without SIGPIPE");
    BIO_meth_set_write(made, BioWrite);
    BIO_meth_set_read(made, BioRead);
    BIO_meth_set_ctrl(made, BioControl);
    return made;
  }();
  return method;
}

std::string LastError() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  return reason == nullptr ? "connection closed" : reason;
}

Error TlsError(const RedisUrl& url, const std::string& what) {
  return Error{EINVAL, "TLS for " + url.Display() + ": " + what + ": " + LastError()};
}

Status LoadFiles(const RedisUrl& url, SSL_CTX* context) {
  if (url.ca_file.empty()) {
    if (SSL_CTX_set_default_verify_paths(context) != 1)
      return TlsError(url, "system certificate authorities");
  } else if (SSL_CTX_load_verify_locations(context, url.ca_file.c_str(), nullptr) != 1) {
    return TlsError(url, "cannot read cacert '" + url.ca_file + "'");
  }
  if (url.certificate_file.empty()) return Ok{};
  if (SSL_CTX_use_certificate_chain_file(context, url.certificate_file.c_str()) != 1)
    return TlsError(url, "cannot read cert '" + url.certificate_file + "'");
  if (SSL_CTX_use_PrivateKey_file(context, url.key_file.c_str(), SSL_FILETYPE_PEM) != 1)
    return TlsError(url, "cannot read key '" + url.key_file + "'");
  return Ok{};
}

bool ExpectHost(SSL* session, const std::string& host) {
  X509_VERIFY_PARAM* const expected = SSL_get0_param(session);
  if (X509_VERIFY_PARAM_set1_ip_asc(expected, host.c_str()) == 1) return true;
  return SSL_set_tlsext_host_name(session, host.c_str()) == 1 && SSL_set1_host(session, host.c_str()) == 1;
}

}  // namespace

void Tls::Free::operator()(ssl_ctx_st* context) const {
  SSL_CTX_free(context);
}
void Tls::Free::operator()(ssl_st* session) const {
  SSL_free(session);
}

Result<std::unique_ptr<Tls>> Tls::Create(const RedisUrl& url, int socket) {
  ERR_clear_error();
  std::unique_ptr<Tls> tls(new Tls);
  tls->context_.reset(SSL_CTX_new(TLS_client_method()));
  SSL_CTX* const context = tls->context_.get();
  if (context == nullptr) return TlsError(url, "cannot start");
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  if (Status loaded = LoadFiles(url, context); !loaded) return loaded.error();

  tls->session_.reset(SSL_new(context));
  BIO* const bio = BIO_new(SocketMethod());
  if (tls->session_ == nullptr || bio == nullptr || !ExpectHost(tls->session_.get(), url.host)) {
    BIO_free(bio);
    return TlsError(url, "cannot start");
  }
  BIO_set_data(bio, reinterpret_cast<void*>(static_cast<intptr_t>(socket)));
  BIO_set_init(bio, 1);
  SSL_set_bio(tls->session_.get(), bio, bio);
  SSL_set_connect_state(tls->session_.get());
  return tls;
}

Io Tls::Judge(int result) {
  switch (SSL_get_error(session_.get(), result)) {
    case SSL_ERROR_WANT_READ:
      return Io::kWantRead;
    case SSL_ERROR_WANT_WRITE:
      return Io::kWantWrite;
    default:
      break;
  }
  const long verdict = SSL_get_verify_result(session_.get());
  failure_ = verdict != X509_V_OK
                 ? std::string("certificate refused: ") + X509_verify_cert_error_string(verdict)
                 : "TLS: " + LastError();
  return Io::kClosed;
}

Io Tls::Handshake() {
  ERR_clear_error();
  const int result = SSL_do_handshake(session_.get());
  return result == 1 ? Io::kDone : Judge(result);
}

Io Tls::Read(char* buffer, size_t size, size_t* done) {
  ERR_clear_error();
  *done = 0;
  const int result = SSL_read_ex(session_.get(), buffer, size, done);
  return result == 1 ? Io::kDone : Judge(result);
}

Io Tls::Write(const char* bytes, size_t size, size_t* done) {
  ERR_clear_error();
  *done = 0;
  const int result = SSL_write_ex(session_.get(), bytes, size, done);
  return result == 1 ? Io::kDone : Judge(result);
}

}  // namespace elsewhere::broker
