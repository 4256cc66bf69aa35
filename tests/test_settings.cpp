// Every row of the table, and what resolve() refuses and fills in.
#include <gtest/gtest.h>

#include <functional>

#include "settings.h"

namespace convoy {
namespace {

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const InputError& error) {
    return error.what();
  }
  return "(nothing was thrown)";
}

const Setting& row(const std::string& name) {
  for (const Setting& setting : setting_table())
    if (name == setting.name) return setting;
  throw std::out_of_range(name);
}

void expect_refused(const std::string& name, const std::string& value) {
  Settings settings;
  const std::string message = error_of([&] { set_from_text(row(name), value, settings); });
  EXPECT_EQ(message.rfind("--" + name + " '" + value + "': expected ", 0), 0u) << message;
}

TEST(Settings, every_number_refuses_what_is_none_or_out_of_range) {
  int whole = 0, real = 0, word = 0;
  for (const Setting& setting : setting_table()) {
    if (const auto* w = std::get_if<Setting::Whole>(&setting.value)) {
      for (const char* value : {"", "x", "1x", " 1", "1 ", "1.5", "nan", "inf", "1e3", "0x10", "-1", "--1",
                                "9223372036854775808", "-9223372036854775809", "99999999999999999999999"})
        expect_refused(setting.name, value);
      if (w->min == 1) expect_refused(setting.name, "0");
      ++whole;
    } else if (const auto* r = std::get_if<Setting::Real>(&setting.value)) {
      for (const char* value : {"", "x", "1x", " 1", "1 ", "nan", "NaN", "-nan", "inf", "-inf", "-1", "-1e-9",
                                "1e400", "1e10", "--1"})
        expect_refused(setting.name, value);
      if (r->above) expect_refused(setting.name, "0");
      ++real;
    } else if (const auto* t = std::get_if<Setting::Word>(&setting.value)) {
      if (!t->choices.empty()) expect_refused(setting.name, "nonsense");
      if (!t->choices.empty()) expect_refused(setting.name, "");
      ++word;
    }
  }
  EXPECT_GT(whole, 5);
  EXPECT_GT(real, 5);
  EXPECT_GT(word, 5);
}

TEST(Settings, every_limit_of_a_range_is_taken) {
  for (const Setting& setting : setting_table()) {
    Settings settings;
    if (const auto* w = std::get_if<Setting::Whole>(&setting.value)) {
      for (int64_t value : {w->min, w->max}) {
        set_from_text(setting, std::to_string(value), settings);
        EXPECT_EQ(settings.*w->field, value) << setting.name;
      }
    } else if (const auto* r = std::get_if<Setting::Real>(&setting.value)) {
      set_from_text(setting, text(r->max), settings);
      EXPECT_EQ(settings.*r->field, r->max) << setting.name;
      if (r->above) continue;
      set_from_text(setting, text(r->min), settings);
      EXPECT_EQ(settings.*r->field, r->min) << setting.name;
    } else if (const auto* t = std::get_if<Setting::Word>(&setting.value)) {
      for (const std::string& choice : t->choices) {
        set_from_text(setting, choice, settings);
        EXPECT_EQ(settings.*t->field, choice) << setting.name;
      }
    } else {
      set_from_text(setting, "true", settings);
      EXPECT_TRUE(settings.*std::get<Setting::Flag>(setting.value).field) << setting.name;
    }
  }
}

TEST(Settings, defaults_are_in_range_and_resolve) {
  const Settings defaults;
  for (const Setting& setting : setting_table()) {
    if (const auto* r = std::get_if<Setting::Real>(&setting.value)) {
      if (defaults.*r->field == 0 && r->above) continue;  // 0: not given
      EXPECT_EQ(problem(*r, defaults.*r->field), "") << setting.name;
    } else if (const auto* t = std::get_if<Setting::Word>(&setting.value)) {
      EXPECT_EQ(problem(*t, defaults.*t->field), "") << setting.name;
    }
  }
  Settings settings;
  resolve(settings, {});
  EXPECT_EQ(settings.epochs, kDefaultEpochs);
  EXPECT_EQ(settings.lr, defaults.lr);
}

TEST(Settings, normalisation_is_one_number_or_one_a_channel) {
  const auto applied = [](const std::string& mean, const std::string& stddev) {
    Settings settings;
    settings.mean = mean;
    settings.stddev = stddev;
    resolve(settings, {"mean", "std"});
    Normalization normalization{{0.1f, 0.2f, 0.3f}, {0.4f, 0.5f, 0.6f}};
    apply_normalization(settings, normalization);
    return std::pair(normalization.mean, normalization.stddev);
  };
  using Numbers = std::vector<float>;
  EXPECT_EQ(applied("", ""), (std::pair(Numbers{0.1f, 0.2f, 0.3f}, Numbers{0.4f, 0.5f, 0.6f})));
  EXPECT_EQ(applied("0.5", ""), (std::pair(Numbers(3, 0.5f), Numbers{0.4f, 0.5f, 0.6f})));
  EXPECT_EQ(applied("0,0.5,1", "1e-6"), (std::pair(Numbers{0, 0.5f, 1}, Numbers(3, 1e-6f))));
  for (const char* bad :
       {",", "0.5,", ",0.5", "0.5,,0.5", "0.5 0.5", "0.5, 0.5", "x", "nan", "inf", "-0.1", "1.1", "127"}) {
    const std::string found = error_of([&] { applied(bad, ""); });
    EXPECT_EQ(found.rfind(std::string("--mean '") + bad + "': expected one number, or one a channel", 0), 0u)
        << found;
    EXPECT_EQ(error_of([&] { applied("", bad); }).rfind("--std '", 0), 0u) << bad;
  }
  for (const char* bad : {"0", "0.5,0,0.5", "1e-7", "1e-50"})
    EXPECT_NE(error_of([&] { applied("", bad); }).find("each from 1e-06 to 1"), std::string::npos) << bad;
  EXPECT_EQ(error_of([&] { applied("0.5,0.5", ""); }),
            "--mean has 2 numbers, the images have 3 channels: give one number, or one a channel");
}

TEST(Settings, adamw_has_its_own_defaults) {
  Settings settings;
  settings.optimizer = "adamw";
  resolve(settings, {});
  EXPECT_EQ(settings.lr, 0.001);
  EXPECT_EQ(settings.weight_decay, 0.01);
  EXPECT_EQ(settings.momentum, 0);

  settings.lr = 0.5;
  settings.weight_decay = 0;
  resolve(settings, {"lr", "weight-decay"});
  EXPECT_EQ(settings.lr, 0.5);
  EXPECT_EQ(settings.weight_decay, 0);
}

TEST(Settings, steps_and_minutes_replace_the_default_epochs) {
  Settings settings;
  settings.steps = 7;
  resolve(settings, {"steps"});
  EXPECT_EQ(settings.epochs, 0);
  settings.steps = 0;
  settings.max_minutes = 0.5;
  resolve(settings, {"max-minutes"});
  EXPECT_EQ(settings.epochs, 0);
}

struct Contradiction {
  const char* name;
  std::vector<std::pair<const char*, const char*>> options;
  const char* message;  // a part of it
};
class Contradictions : public testing::TestWithParam<Contradiction> {};

TEST_P(Contradictions, are_refused) {
  Settings settings;
  Given given;
  for (const auto& [name, value] : GetParam().options) {
    set_from_text(row(name), value, settings);
    given.insert(name);
  }
  const std::string message = error_of([&] { resolve(settings, given); });
  EXPECT_NE(message.find(GetParam().message), std::string::npos) << message;
}

INSTANTIATE_TEST_SUITE_P(
    Settings, Contradictions,
    testing::Values(
        Contradiction{"epochs_steps", {{"epochs", "2"}, {"steps", "3"}}, "--epochs 2 and --steps 3"},
        Contradiction{"adamw_momentum", {{"optimizer", "adamw"}, {"momentum", "0.5"}}, "--momentum"},
        Contradiction{"adamw_nesterov", {{"optimizer", "adamw"}, {"nesterov", "true"}}, "--nesterov"},
        Contradiction{"nesterov_without_momentum",
                      {{"momentum", "0"}, {"nesterov", "true"}},
                      "--nesterov needs --momentum"},
        Contradiction{"gamma_without_step", {{"lr-gamma", "0.5"}}, "--lr-gamma"},
        Contradiction{"step_every_without_step",
                      {{"lr-step-every", "2"}, {"lr-schedule", "cosine"}},
                      "--lr-step-every"},
        Contradiction{
            "cosine_without_end", {{"max-minutes", "2"}, {"lr-schedule", "cosine"}}, "--epochs or --steps"},
        Contradiction{
            "linear_without_end", {{"max-minutes", "2"}, {"lr-schedule", "linear"}}, "--epochs or --steps"},
        Contradiction{"resume_auto_where", {{"resume", "auto"}}, "--resume auto needs --out"},
        Contradiction{"init_and_resume", {{"resume", "x"}, {"init", "y"}}, "--init and --resume"},
        Contradiction{"no_model", {{"model", ""}}, "--model is empty"},
        Contradiction{"no_data", {{"data", ""}}, "--data is empty"}),
    [](const auto& one) { return std::string(one.param.name); });

TEST(Settings, intervals_of_checkpoints) {
  EXPECT_EQ(parse_every("checkpoint-every", "500").count, 500);
  EXPECT_FALSE(parse_every("checkpoint-every", "500").epochs);
  EXPECT_EQ(parse_every("checkpoint-every", "2epoch").count, 2);
  EXPECT_TRUE(parse_every("checkpoint-every", "2epoch").epochs);
  EXPECT_EQ(parse_every("checkpoint-every", "0").count, 0);
  EXPECT_EQ(parse_every("average-every", "epoch").count, 1);
  EXPECT_TRUE(parse_every("average-every", "epoch").epochs);
  for (const char* value : {"", "-1", "1.5epoch", "1 epoch", "1epochs", "x", "1e3", "9999999999999999", "+1"})
    EXPECT_NE(error_of([&] { parse_every("checkpoint-every", value); }).find("--checkpoint-every '"),
              std::string::npos)
        << value;
}

TEST(Settings, the_command_line_overrules_what_depends_on_it) {
  Settings file;
  file.epochs = 3;
  file.lr = 0.7;
  file.momentum = 0.5;
  file.lr_schedule = "step";
  file.lr_gamma = 0.5;
  file.data = "mnist";
  file.data_dir = "somewhere";
  file.init = "x.safetensors";
  Given given{"epochs", "lr", "momentum", "lr-schedule", "lr-gamma", "data", "data-dir", "init"};

  Settings settings = file;
  settings.steps = 10;
  settings.optimizer = "adamw";
  settings.lr_schedule = "cosine";
  settings.data = "shapes";
  settings.resume = "runs/x";
  const Given line{"steps", "optimizer", "lr-schedule", "data", "resume"};
  drop_overruled(settings, file, given, line);
  EXPECT_EQ(given, (Given{"lr-schedule", "data"}));
  given.insert(line.begin(), line.end());
  resolve(settings, given);
  EXPECT_EQ(settings.epochs, 0);
  EXPECT_EQ(settings.lr, 0.001);
  EXPECT_EQ(settings.data_dir, "");
  EXPECT_EQ(settings.init, "");
}

TEST(Settings, the_command_line_keeps_what_it_gives_itself) {
  Settings file;
  file.steps = 4;
  Given given{"steps"};
  Settings settings = file;
  settings.epochs = 2;
  settings.optimizer = "adamw";
  settings.lr = 0.25;
  const Given line{"epochs", "optimizer", "lr"};
  drop_overruled(settings, file, given, line);
  EXPECT_EQ(settings.steps, 0);
  EXPECT_EQ(settings.lr, 0.25);
}

}  // namespace
}  // namespace convoy
