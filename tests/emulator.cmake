# The CUDA kernels as plain C++ on the emulator (emulator/emulator.h). A program with ThreadSanitizer or libFuzzer has no
# emulator: the former knows nothing of its fibers.
#   convoy_emulated   the kernels, the emulator and its runtime, for tests to link
#   nvcc_check        compiles the same kernels with nvcc, where there is one; not part of `all`
file(GLOB CONVOY_CUDA CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/*.cu ${CMAKE_CURRENT_SOURCE_DIR}/*.cu)

if(CONVOY_FUZZ OR CMAKE_CXX_FLAGS MATCHES "-fsanitize=thread")
  list(FILTER CONVOY_TESTS EXCLUDE REGEX "/test_emulator[a-z_]*\\.cpp$")
else()
  file(GLOB sources CONFIGURE_DEPENDS emulator/*.cpp emulator/runtime/*.cpp)
  add_library(convoy_emulator STATIC ${sources})
  target_link_libraries(convoy_emulator PRIVATE convoy_options PUBLIC ${CMAKE_DL_LIBS})
  target_include_directories(convoy_emulator PUBLIC ${CMAKE_CURRENT_SOURCE_DIR}/emulator/cuda)

  add_library(convoy_emulated OBJECT ${CONVOY_CUDA})
  set_source_files_properties(${CONVOY_CUDA} PROPERTIES LANGUAGE CXX)
  target_compile_options(convoy_emulated PRIVATE -x c++ -g1)
  target_include_directories(convoy_emulated PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  target_link_libraries(convoy_emulated PUBLIC convoy_emulator PRIVATE convoy_options)
  if(NOT CMAKE_CXX_FLAGS MATCHES "-fsanitize=")
    # A call at each load and store, which the emulator's hooks.cpp takes; ThreadSanitizer itself is not linked.
    target_compile_options(convoy_emulated PRIVATE -fsanitize=thread)
  endif()
endif()

find_program(CONVOY_NVCC nvcc HINTS /usr/local/cuda/bin)
if(CONVOY_NVCC)
  set(CONVOY_NVCC_ARCHITECTURES 75 80 86 89 90 CACHE STRING "What nvcc_check compiles for")
  add_custom_target(nvcc_check)
  foreach(source ${CONVOY_CUDA})
    get_filename_component(stem ${source} NAME_WE)
    foreach(architecture ${CONVOY_NVCC_ARCHITECTURES})
      add_custom_target(nvcc_${stem}_${architecture}
        COMMAND ${CONVOY_NVCC} -std=c++17 -O3 -arch=sm_${architecture} --extended-lambda -Werror all-warnings
          -Xcompiler -Wall,-Wextra -I${CMAKE_SOURCE_DIR}/include -I${CMAKE_SOURCE_DIR} -I${CMAKE_CURRENT_SOURCE_DIR}
          -c ${source} -o ${CMAKE_CURRENT_BINARY_DIR}/nvcc_${stem}_${architecture}.o
        VERBATIM)
      add_dependencies(nvcc_check nvcc_${stem}_${architecture})
    endforeach()
  endforeach()
endif()
