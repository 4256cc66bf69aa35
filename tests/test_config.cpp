// Config files: every setting goes round, and everything else is refused with file, line and column.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "config.h"

namespace convoy {
namespace {

std::string error_of(const std::string& content) {
  Settings settings;
  Given given;
  try {
    read_config_text(content, "f.toml", settings, given);
  } catch (const InputError& error) {
    return error.what();
  }
  return "(nothing was thrown)";
}

TEST(Config, sets_what_it_names) {
  Settings settings;
  Given given;
  read_config_text(
      "# a comment\nmodel = 'vgg16'\nbatch-size = 32\nlr = 1\nmomentum = 0.25\nnesterov = true\n", "f",
      settings, given);
  EXPECT_EQ(settings.model, "vgg16");
  EXPECT_EQ(settings.batch_size, 32);
  EXPECT_EQ(settings.lr, 1.0);
  EXPECT_EQ(settings.momentum, 0.25);
  EXPECT_TRUE(settings.nesterov);
  EXPECT_EQ(settings.optimizer, Settings().optimizer);
  EXPECT_EQ(given, (Given{"model", "batch-size", "lr", "momentum", "nesterov"}));
}

TEST(Config, checkpoint_every_may_be_a_number) {
  Settings settings;
  Given given;
  read_config_text("checkpoint-every = 500", "f", settings, given);
  EXPECT_EQ(settings.checkpoint_every, "500");
}

// A value unlike the default for every setting.
Settings unlike_the_defaults() {
  Settings settings;
  int64_t number = 3;
  for (const Setting& setting : setting_table()) {
    if (const auto* whole = std::get_if<Setting::Whole>(&setting.value)) settings.*whole->field = number++;
    if (const auto* real = std::get_if<Setting::Real>(&setting.value))
      settings.*real->field = 0.1 + 1.0 / 3 / static_cast<double>(number++);
    if (const auto* word = std::get_if<Setting::Word>(&setting.value))
      settings.*word->field =
          word->choices.empty() ? "a \"b\" \\ 'c' \t " + std::to_string(number++) : word->choices.back();
    if (const auto* flag = std::get_if<Setting::Flag>(&setting.value)) settings.*flag->field = true;
  }
  settings.checkpoint_every = "7epoch";
  settings.average_every = "3";
  settings.lr_schedule = "step";
  return settings;
}

TEST(Config, what_is_written_reads_back_bit_for_bit) {
  const Settings settings = unlike_the_defaults();
  Settings back;
  Given given;
  read_config_text(config_text(settings), "f", back, given);
  for (const Setting& setting : setting_table()) {
    const std::string name = setting.name;
    if (name == "out" || name == "resume" || name == "trace") continue;
    std::visit(
        [&](const auto& value) { EXPECT_EQ(back.*value.field, settings.*value.field) << setting.name; },
        setting.value);
    EXPECT_EQ(given.count(setting.name), 1u) << setting.name;
  }
  EXPECT_EQ(back.out, "");
  EXPECT_EQ(back.resume, "");
  EXPECT_EQ(back.trace, "");
}

TEST(Config, resolved_settings_can_be_fed_back) {
  for (const char* optimizer : {"sgd", "adamw"})
    for (const char* schedule : {"constant", "step", "cosine", "linear"}) {
      Settings settings, back;
      settings.optimizer = optimizer;
      settings.lr_schedule = schedule;
      resolve(settings, {});
      Given given;
      read_config_text(config_text(settings), "f", back, given);
      resolve(back, given);
      EXPECT_EQ(config_text(back), config_text(settings));
    }
  for (const char* parallel : {"data", "hybrid", "model"})
    for (const char* sync : {"step", "average"}) {
      if (std::string(sync) == "average" && std::string(parallel) != "data") continue;
      Settings settings, back;
      settings.parallel = parallel;
      settings.sync = sync;
      resolve(settings, {});
      Given given;
      read_config_text(config_text(settings), "f", back, given);
      resolve(back, given);
      EXPECT_EQ(config_text(back), config_text(settings));
    }
}

TEST(Config, is_written_to_the_run_directory) {
  const std::string dir = testing::TempDir() + "convoy_test_config";
  std::filesystem::create_directories(dir);
  write_config(dir, unlike_the_defaults());
  Settings back;
  Given given;
  read_config(dir + "/config.toml", back, given);
  EXPECT_EQ(config_text(back), config_text(unlike_the_defaults()));
  std::filesystem::remove_all(dir);
  EXPECT_THROW(write_config(dir, back), Error);
}

struct Bad {
  const char* content;
  const char* message;  // its start
};
TEST(Config, refuses_with_file_line_and_column) {
  const Bad cases[] = {
      {"modle = 'vgg16'", "f.toml:1:1: unknown setting 'modle'; did you mean model?"},
      {"lr = 0.1\n\n  batch_size = 3", "f.toml:3:3: unknown setting 'batch_size'; did you mean batch-size?"},
      {"--lr = 0.1", "f.toml:1:1: unknown setting '--lr'"},
      {"[train]\nlr = 0.1", "f.toml:1:2: unknown setting 'train'"},
      {"lr = 'x'", "f.toml:1:6: lr: expected a number"},
      {"lr = true", "f.toml:1:6: lr: expected a number"},
      {"lr = nan", "f.toml:1:6: lr: expected a number from 0"},
      {"lr = inf", "f.toml:1:6: lr: expected a number from 0"},
      {"lr = -0.1", "f.toml:1:6: lr: expected a number from 0"},
      {"lr = [1]", "f.toml:1:6: lr: expected a number"},
      {"epochs = 1.0", "f.toml:1:10: epochs: expected a whole number"},
      {"epochs = 0", "f.toml:1:10: epochs: expected a whole number, at least 1"},
      {"epochs = -1", "f.toml:1:10: epochs: expected a whole number, at least 1"},
      {"epochs = '3'", "f.toml:1:10: epochs: expected a whole number"},
      {"epochs = 99999999999999999999", "f.toml:1:"},
      {"batch-size = 16777217", "f.toml:1:14: batch-size: expected a whole number from 1 to 16777216"},
      {"model = 5", "f.toml:1:9: model: expected a text in quotes"},
      {"model = vgg16", "f.toml:1:"},
      {"optimizer = 'adam'", "f.toml:1:13: optimizer: expected one of sgd, adamw"},
      {"nesterov = 1", "f.toml:1:12: nesterov: expected true or false"},
      {"nesterov = 'true'", "f.toml:1:12: nesterov: expected true or false"},
      {"checkpoint-every = 'often'", "f.toml:1:20: --checkpoint-every 'often'"},
      {"checkpoint-every = -5", "f.toml:1:20: --checkpoint-every '-5'"},
      {"lr = 0.1\nlr = 0.2", "f.toml:2:"},
      {"lr 0.1", "f.toml:1:"},
      {"= 1", "f.toml:1:"},
      {"lr = 'unfinished", "f.toml:1:"},
      {"\xff\xfe", "f.toml:1:"},
  };
  for (const Bad& bad : cases) {
    const std::string message = error_of(bad.content);
    EXPECT_EQ(message.rfind(bad.message, 0), 0u) << bad.content << "\n" << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }
}

TEST(Config, an_unreadable_file_is_named) {
  Settings settings;
  Given given;
  const std::string dir = testing::TempDir() + "convoy_test_config_dir";
  std::filesystem::create_directories(dir);
  for (const std::string& file : {dir + "/missing.toml", dir}) {
    try {
      read_config(file, settings, given);
      ADD_FAILURE() << file;
    } catch (const InputError& error) {
      EXPECT_EQ(std::string(error.what()).rfind(file + ": cannot read the config file: ", 0), 0u)
          << error.what();
    }
  }
  std::ofstream(dir + "/large.toml") << std::string((1 << 20) + 1, '#');
  EXPECT_THROW(read_config(dir + "/large.toml", settings, given), InputError);
  std::ofstream(dir + "/empty.toml").close();
  read_config(dir + "/empty.toml", settings, given);
  EXPECT_TRUE(given.empty());
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace convoy
