# The tests of the emulator itself, and its planted bugs (emulator_kernels.cu), where the build has it.
if(CONVOY_CUDA STREQUAL "EMULATED")
  add_emulated(emulator_kernels ${CMAKE_CURRENT_SOURCE_DIR}/emulator_kernels.cu)
  target_include_directories(emulator_kernels PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
else()
  list(FILTER CONVOY_TESTS EXCLUDE REGEX "/test_emulator[a-z_]*\\.cpp$")
endif()
