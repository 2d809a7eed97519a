#include <iostream>

#include "client/client.h"

#if defined(GRPCPP_GRPCPP_H) || defined(GOOGLE_PROTOBUF_VERSION)
#error "the client's header lets gRPC or protobuf be seen"
#endif

// Nobody listens: what counts is that the library builds, links and answers.
int main() {
  const auto client = image_variations::client::Client::Connect({.address = "unix:/tmp/nobody"});
  const absl::Status status = client->CheckHealth().status();
  std::cout << status << "\n";
  return absl::IsUnavailable(status) ? 0 : 1;
}
