// metrics.jsonl and summary.json: valid JSON whatever the numbers, and going on after a stop.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "metrics.h"

namespace convoy {
namespace {

using nlohmann::json;

class Metrics : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(dir_); }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  std::string content() const {
    std::ifstream in(file_, std::ios::binary);
    std::ostringstream out;
    out << in.rdbuf();
    return out.str();
  }
  std::vector<json> lines() const {
    std::vector<json> parsed;
    std::istringstream in(content());
    for (std::string line; std::getline(in, line);) parsed.push_back(json::parse(line));
    return parsed;
  }
  // 10 steps, an epoch line after the 5th and the 10th.
  void write_ten(MetricsWriter& writer, int64_t first) {
    for (int64_t step = first; step <= 10; ++step) {
      writer.write(StepMetrics{step, (step - 1) / 5, 1.0 / static_cast<double>(step), 0.1, 100});
      if (step % 5 == 0) writer.write(EpochMetrics{step, step / 5 - 1, 0.5, 0.75, 0.25, 0.875, 1000, 2.5});
    }
  }

  const std::string dir_ = testing::TempDir() + "convoy_test_metrics_" +
                           testing::UnitTest::GetInstance()->current_test_info()->name();
  const std::string file_ = dir_ + "/metrics.jsonl";
};

TEST_F(Metrics, steps_and_epochs_have_the_documented_keys) {
  MetricsWriter writer(file_);
  writer.write(StepMetrics{50, 2, 0.1, 0.05, 1234.5});
  writer.write(EpochMetrics{60, 2, 0.5, 0.75, 0.25, 0.875, 1000, 2.5});
  EXPECT_EQ(content(),  // flushed: the writer still lives
            R"({"event":"step","step":50,"epoch":2,"loss":0.1,"lr":0.05,"images_per_second":1234.5})"
            "\n"
            R"({"event":"epoch","epoch":2,"step":60,"train_loss":0.5,"train_accuracy":0.75,"test_loss":0.25,)"
            R"("test_accuracy":0.875,"images_per_second":1000.0,"seconds":2.5})"
            "\n");
}

TEST_F(Metrics, numbers_that_are_not_finite_become_null) {
  MetricsWriter writer(file_);
  writer.write(StepMetrics{1, 0, std::nan(""), INFINITY, -INFINITY});
  writer.write(EpochMetrics{});
  const std::vector<json> got = lines();
  ASSERT_EQ(got.size(), 2u);
  for (const char* key : {"loss", "lr", "images_per_second"}) EXPECT_TRUE(got[0].at(key).is_null()) << key;
  for (const char* key : {"train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds"})
    EXPECT_TRUE(got[1].at(key).is_null()) << key;
}

TEST_F(Metrics, a_resumed_run_leaves_the_file_of_one_that_never_stopped) {
  {
    MetricsWriter writer(file_);
    write_ten(writer, 1);
  }
  const std::string whole = content();
  for (int64_t stop = 0; stop <= 10; ++stop) {  // the checkpoint's step; the old run went on to 10
    MetricsWriter writer(file_, stop);
    EXPECT_EQ(lines().size(), static_cast<size_t>(stop + stop / 5));
    write_ten(writer, stop + 1);
    EXPECT_EQ(content(), whole) << "resumed at step " << stop;
  }
}

TEST_F(Metrics, a_torn_last_line_is_dropped_wherever_it_was_cut) {
  {
    MetricsWriter writer(file_);
    write_ten(writer, 1);
  }
  const std::string whole = content();
  const size_t last = whole.rfind("{\"event\":\"epoch\"");
  for (size_t cut = last; cut < whole.size(); ++cut) {
    std::ofstream(file_, std::ios::binary) << whole.substr(0, cut);
    MetricsWriter writer(file_, 10);
    EXPECT_EQ(content(), whole.substr(0, last)) << "cut at byte " << cut;
  }
}

TEST_F(Metrics, what_is_no_metrics_line_ends_the_part_that_is_kept) {
  const std::string good = "{\"event\":\"step\",\"step\":1}\n";
  for (const char* bad :
       {"\n", "nonsense\n", "[1]\n", "{}\n", "{\"step\":\"1\"}\n", "{\"step\":1.5}\n", "\xff\n"}) {
    std::ofstream(file_, std::ios::binary) << good << bad << good;
    MetricsWriter writer(file_, 10);
    EXPECT_EQ(content(), good) << bad;
  }
}

TEST_F(Metrics, a_new_run_starts_an_empty_file_and_a_missing_one_is_made) {
  { MetricsWriter(file_, 5).write(StepMetrics{6}); }
  EXPECT_EQ(lines().size(), 1u);
  { MetricsWriter writer(file_); }
  EXPECT_EQ(content(), "");
}

TEST_F(Metrics, a_file_that_cannot_be_written_is_an_error) {
  EXPECT_THROW(MetricsWriter(dir_ + "/missing/metrics.jsonl"), Error);
  EXPECT_THROW(MetricsWriter{dir_}, Error);
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full";
  MetricsWriter writer("/dev/full");
  EXPECT_THROW(writer.write(StepMetrics{}), Error);
}

TEST_F(Metrics, the_summary_holds_the_final_figures_and_every_setting) {
  Settings settings;
  settings.model = "odd \xff name\n";
  RunSummary summary;
  summary.status = "done";
  summary.steps = 60;
  summary.last.test_accuracy = 0.9625;
  summary.images_per_second = 4321;
  summary.device = "cpu-plain";
  summary.threads = 2;
  write_summary(dir_, settings, summary);
  std::ifstream in(dir_ + "/summary.json");
  const json got = json::parse(in);
  EXPECT_EQ(got.at("status"), "done");
  EXPECT_EQ(got.at("steps"), 60);
  EXPECT_EQ(got.at("test_accuracy"), 0.9625);
  EXPECT_TRUE(got.at("train_loss").is_null());
  EXPECT_EQ(got.at("images_per_second"), 4321);
  EXPECT_EQ(got.at("device"), "cpu-plain");
  EXPECT_FALSE(got.at("version").get<std::string>().empty());
  EXPECT_FALSE(got.at("commit").get<std::string>().empty());
  for (const Setting& setting : setting_table())
    EXPECT_TRUE(got.at("settings").contains(setting.name)) << setting.name;
  EXPECT_FALSE(std::filesystem::exists(dir_ + "/summary.json.tmp"));
  EXPECT_THROW(write_summary(dir_ + "/missing", settings, summary), Error);
}

}  // namespace
}  // namespace convoy
