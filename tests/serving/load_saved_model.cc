// Loads an export by the C++ loader that TensorFlow Serving is built on (LoadSavedModel,
// here by its door in the C API) and asks it.
//
//   load_saved_model VERSION_FOLDER PICTURE TEXT IMAGE TEXTS MARGIN INFO OP_LIBRARY...
//
// IMAGE, TEXTS, MARGIN and INFO are the names of tensors of the default signature and of
// `info`, as NAME:INDEX. Prints a line for each answer, also for a refused request.

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "tensorflow/c/c_api.h"
#include "tensorflow/c/tf_tstring.h"

namespace {

TF_Status* status = TF_NewStatus();

void Check(const std::string& what) {
  if (TF_GetCode(status) == TF_OK) return;
  std::cerr << what << ": " << TF_Message(status) << std::endl;
  std::exit(1);
}

TF_Tensor* Strings(const std::vector<std::string>& values) {
  const int64_t size = values.size();
  TF_Tensor* tensor = TF_AllocateTensor(TF_STRING, &size, 1, size * sizeof(TF_TString));
  auto* strings = static_cast<TF_TString*>(TF_TensorData(tensor));
  for (int64_t i = 0; i < size; ++i) {
    TF_TString_Init(&strings[i]);
    TF_TString_Copy(&strings[i], values[i].data(), values[i].size());
  }
  return tensor;
}

TF_Output Find(TF_Graph* graph, const std::string& name) {
  const size_t colon = name.rfind(':');
  TF_Operation* op = TF_GraphOperationByName(graph, name.substr(0, colon).c_str());
  if (op == nullptr) {
    std::cerr << "no operation " << name << std::endl;
    std::exit(1);
  }
  return {op, std::atoi(name.substr(colon + 1).c_str())};
}

// Runs the session; nullptr and a status where the request is refused.
TF_Tensor* Run(TF_Session* session, const std::vector<TF_Output>& inputs,
               const std::vector<TF_Tensor*>& values, TF_Output output) {
  TF_Tensor* found = nullptr;
  TF_SessionRun(session, nullptr, inputs.data(), values.data(), inputs.size(), &output,
                &found, 1, nullptr, 0, nullptr, status);
  return found;
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 8; i < argc; ++i) {
    TF_LoadLibrary(argv[i], status);
    Check(argv[i]);
  }
  TF_Graph* graph = TF_NewGraph();
  TF_SessionOptions* options = TF_NewSessionOptions();
  const char* tags[] = {"serve"};
  TF_Session* session = TF_LoadSessionFromSavedModel(options, nullptr, argv[1], tags, 1,
                                                     graph, nullptr, status);
  Check("loading");

  std::ifstream file(argv[2], std::ios::binary);
  const std::string picture((std::istreambuf_iterator<char>(file)), {});
  TF_Tensor* texts = Strings({argv[3], ""});
  const std::vector<TF_Output> inputs = {Find(graph, argv[4]), Find(graph, argv[5])};
  const TF_Output margin = Find(graph, argv[6]);

  TF_Tensor* found = Run(session, inputs, {Strings({picture}), texts}, margin);
  Check("serving_default");
  const auto* margins = static_cast<const float*>(TF_TensorData(found));
  for (int i = 0; i < 2; ++i) std::printf("margin %.9g\n", margins[i]);

  found = Run(session, {}, {}, Find(graph, argv[7]));
  Check("info");
  const auto* text = static_cast<const TF_TString*>(TF_TensorData(found));
  std::printf("info %zu\n", TF_TString_GetSize(text));

  const std::string half = picture.substr(0, picture.size() / 2);
  Run(session, inputs, {Strings({picture, half}), texts}, margin);
  std::printf("refused %d %s\n", TF_GetCode(status), TF_Message(status));
}
