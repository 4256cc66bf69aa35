// The reader of net files: lines become layers, names become inputs. Grammar: docs/nets.md.
#include <algorithm>
#include <set>
#include <unordered_map>

#include "nearest.h"
#include "net_line.h"

namespace convoy {
namespace {

class Reader {
 public:
  explicit Reader(const std::string& source) : source_(source) {}

  Net read(const std::string& content) {
    size_t start = content.compare(0, 3, "\xef\xbb\xbf") == 0 ? 3 : 0;  // a byte order mark
    int number = 0;
    while (start < content.size()) {
      const size_t end = std::min(content.find('\n', start), content.size());
      const NetLine line(source_, ++number, content.substr(start, end - start));
      if (!line.empty()) add_layer(line);
      start = end + 1;
    }
    finish(std::max(number, 1));
    net_.text = content;
    return std::move(net_);
  }

 private:
  void add_layer(const NetLine& line) {
    if (net_.layers.size() == kMaxLayers) line.fail(line.kind(), "a net has at most ", kMaxLayers, " layers");
    Layer layer;
    layer.line = line.line();
    layer.spec = read_spec(line);
    layer.inputs = read_inputs(line, layer.spec);
    layer.name = read_name(line);
    layer.split_outputs = read_split(line);
    for (const int input : layer.inputs) read_.insert(input);
    net_.layers.push_back(std::move(layer));
    columns_.push_back(line.named() ? line.name().column : line.kind().column);
    const LayerShape result = layer_shape(net_, net_.layers.size() - 1, shapes_);
    if (!result.problem.empty()) line.fail(line.word_of(result.part), result.problem);
    shapes_.push_back(result.shape);
  }

  std::vector<int> read_inputs(const NetLine& line, const LayerSpec& spec) const {
    if (std::holds_alternative<Input>(spec)) {
      if (net_.layers.empty()) return {};
      line.fail(line.kind(), "a second input: a net has one, and line ", net_.layers.front().line, " is it");
    }
    if (net_.layers.empty()) line.fail(line.kind(), "the first layer must be the input: input HxWxC");
    if (std::holds_alternative<Add>(spec))
      return {find_layer(line, line.positional(0)), find_layer(line, line.positional(1))};
    const Word* from = line.keyword("from");
    return {from != nullptr ? find_layer(line, *from) : static_cast<int>(net_.layers.size()) - 1};
  }

  bool read_split(const NetLine& line) const {
    const Word* what = line.keyword("split");
    if (what == nullptr) return false;
    if (what->text != "outputs") line.fail(*what, "only outputs can be split, not ", quoted(what->text));
    if (const std::optional<int> first = split_layer(net_))
      line.fail(*what, "a second 'split outputs': there is one switch from rows to outputs, and line ",
                net_.layers[static_cast<size_t>(*first)].line, " is it");
    return true;
  }

  int find_layer(const NetLine& line, const Word& word) const {
    const auto found = layers_by_name_.find(word.text);
    if (found != layers_by_name_.end()) return found->second;
    std::vector<std::string> names;
    for (const Layer& layer : net_.layers) names.push_back(layer.name);
    line.fail(word, "no layer named ", quoted(word.text), " above this line", did_you_mean(word.text, names));
  }

  // An automatic name is the kind and its number among the layers of this kind, named ones included.
  std::string read_name(const NetLine& line) {
    const std::string& kind = line.kind().text;
    const int number = ++count_[kind];
    const std::string automatic = kind == "input" ? kind : text(kind, number);
    std::string name = line.named() ? line.name().text : automatic;
    const auto [place, fresh] = layers_by_name_.try_emplace(name, static_cast<int>(net_.layers.size()));
    if (fresh) return name;
    const int taken = net_.layers[static_cast<size_t>(place->second)].line;
    if (line.named()) line.fail(line.name(), "the name ", quoted(name), " is taken by line ", taken);
    line.fail(line.kind(), "the automatic name ", quoted(name), " is taken by line ", taken,
              "; name this layer");
  }

  template <class... Parts>
  [[noreturn]] void fail(size_t layer, const Parts&... parts) const {
    input_error(source_, ":", net_.layers[layer].line, ":", columns_[layer], ": ", parts...);
  }

  void finish(int last_line) const {
    if (net_.layers.empty())
      input_error(source_, ":", last_line, ":1: no layers; a net begins with: input HxWxC");
    const size_t last = net_.layers.size() - 1;
    for (size_t i = 0; i < last; ++i)
      if (read_.count(static_cast<int>(i)) == 0) fail(i, "no layer reads '", net_.layers[i].name, "'");
    if (!std::holds_alternative<Fc>(net_.layers[last].spec))
      fail(last, "the last layer must be fc, one output a class, not ", layer_kind(net_.layers[last].spec));
    for (const ParameterSpec& spec : parameters(net_)) {
      refuse_layer_called(spec.name, spec.layer);
      if (spec.role == ParameterSpec::kRunningMean)
        refuse_layer_called(net_.layers[static_cast<size_t>(spec.layer)].name + ".num_batches_tracked",
                            spec.layer);
    }
  }

  // A module cannot have a parameter and a module of one name: PyTorch could not load the checkpoint.
  void refuse_layer_called(const std::string& tensor, int owner) const {
    const auto found = layers_by_name_.find(tensor);
    if (found == layers_by_name_.end()) return;
    fail(static_cast<size_t>(found->second), "the name '", tensor, "' is that of a tensor of line ",
         net_.layers[static_cast<size_t>(owner)].line, " in checkpoints; use another");
  }

  const std::string& source_;
  Net net_;
  std::vector<Shape> shapes_;  // of net_.layers, one row
  std::vector<int> columns_;   // where their lines begin
  std::set<int> read_;         // layers that another layer reads
  std::unordered_map<std::string, int> layers_by_name_, count_;
};

}  // namespace

Net parse_net(const std::string& content, const std::string& source) {
  Net net = Reader(source).read(content);
  net.name = source.substr(source.find_last_of('/') + 1);
  if (net.name.size() > 4 && net.name.compare(net.name.size() - 4, 4, ".net") == 0)
    net.name.resize(net.name.size() - 4);
  return net;
}

}  // namespace convoy
