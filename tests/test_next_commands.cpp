// The commands that a run offers: right for its data, and safe to copy into a shell.
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>

#include "next_commands.h"

namespace convoy {
namespace {

TEST(NextCommands, words_come_back_from_a_shell_as_they_were) {
  EXPECT_EQ(shell_word("runs/mlp-20260101-120000"), "runs/mlp-20260101-120000");
  for (const std::string word : {"a b", "it's", "$HOME", "*", "", "a;b", "~", "\"", "\\", "-n x", "ä"}) {
    FILE* shell = popen(("printf %s " + shell_word(word)).c_str(), "r");
    char back[64] = {};
    const size_t bytes = fread(back, 1, sizeof back, shell);
    pclose(shell);
    EXPECT_EQ(std::string(back, bytes), word);
  }
}

TEST(NextCommands, name_the_run_and_its_data) {
  Settings settings;
  settings.data = "mnist";
  settings.data_dir = "my data";
  const std::vector<std::string> commands = next_commands(settings, "runs/a b");
  ASSERT_EQ(commands.size(), 3u);
  EXPECT_EQ(commands[0], program_word() + " eval --checkpoint 'runs/a b'");
  EXPECT_EQ(commands[1], program_word() + " predict --checkpoint 'runs/a b' IMAGE.png");
  EXPECT_EQ(commands[2],
            program_word() + " train --model resnet18 --data mnist --data-dir 'my data' --epochs 1");
  settings.model = "resnet18";
  EXPECT_NE(next_commands(settings, "run")[2].find(" --model cifar_cnn "), std::string::npos);
  EXPECT_EQ(resume_command("run"), program_word() + " train --resume run");
}

TEST(NextCommands, a_folder_of_images_is_predicted) {
  const std::string folder = testing::TempDir() + "convoy_next_commands";
  std::filesystem::create_directories(folder + "/test");
  Settings settings;
  settings.data = folder;
  settings.image_size = 32;
  const std::vector<std::string> commands = next_commands(settings, "run");
  EXPECT_EQ(commands[1], program_word() + " predict --checkpoint run " + folder + "/test");
  EXPECT_EQ(commands[2],
            program_word() + " train --model resnet18 --data " + folder + " --image-size 32 --epochs 1");
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace convoy
