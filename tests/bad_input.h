// Expecting an InputError: of one line, that names the file and says what it should.
#pragma once
#include <gtest/gtest.h>

#include <string>

#include "convoy/check.h"

namespace convoy_test {

template <class Call>
void expect_input_error(const Call& call, const std::string& name, const std::string& part = "") {
  try {
    call();
    ADD_FAILURE() << "no error; want one that names " << name << " and says: " << part;
  } catch (const convoy::InputError& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find(name), std::string::npos) << message << "\n  should name " << name;
    EXPECT_NE(message.find(part), std::string::npos) << message << "\n  should say " << part;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    EXPECT_LT(message.size(), 500u) << message;
  }
}

}  // namespace convoy_test
