# The CUDA backend, kernels/*.cu:
#   convoy_cuda            its objects
#   convoy_cuda_libraries  what they link to
# ON compiles them with nvcc. EMULATED compiles them as plain C++ against tests/emulator, where they run without a GPU, to
# test them. AUTO is ON where nvcc is found, else OFF.
set(CONVOY_CUDA AUTO CACHE STRING "The CUDA backend: AUTO (when nvcc is found), ON, OFF or EMULATED (on the CPU, for tests)")
set_property(CACHE CONVOY_CUDA PROPERTY STRINGS AUTO ON OFF EMULATED)
file(GLOB CONVOY_CUDA_SOURCES CONFIGURE_DEPENDS kernels/*.cu)
find_program(CONVOY_NVCC nvcc HINTS /usr/local/cuda/bin)
set(CONVOY_HAS_CUDA OFF)

if(CONVOY_CUDA STREQUAL "EMULATED")
  if(CONVOY_FUZZ OR CMAKE_CXX_FLAGS MATCHES "-fsanitize=thread")
    message(FATAL_ERROR "CONVOY_CUDA=EMULATED: ThreadSanitizer and libFuzzer know nothing of the emulator's fibers")
  endif()
  set(CONVOY_HAS_CUDA ON)
  file(GLOB sources CONFIGURE_DEPENDS tests/emulator/*.cpp tests/emulator/runtime/*.cpp)
  add_library(convoy_emulator STATIC ${sources})
  target_link_libraries(convoy_emulator PRIVATE convoy_options PUBLIC ${CMAKE_DL_LIBS})
  target_include_directories(convoy_emulator PUBLIC tests/emulator/cuda)
  add_library(convoy_cuda_libraries INTERFACE)
  target_link_libraries(convoy_cuda_libraries INTERFACE convoy_emulator)
  # NCCL, which programs find at run time and which finds the emulator's one state in them.
  target_link_options(convoy_cuda_libraries INTERFACE -rdynamic)
  add_library(nccl_emulated SHARED tests/emulator/nccl/nccl.cpp)
  target_include_directories(nccl_emulated PRIVATE tests/emulator/cuda)
  target_link_libraries(nccl_emulated PRIVATE convoy_options)

  function(add_emulated target)
    add_library(${target} OBJECT ${ARGN})
    set_source_files_properties(${ARGN} PROPERTIES LANGUAGE CXX)
    target_compile_options(${target} PRIVATE -x c++ -g1)
    target_compile_definitions(${target} PRIVATE CONVOY_CUDA_ARCHITECTURES="emulated")
    target_link_libraries(${target} PUBLIC convoy_emulator PRIVATE convoy_options)
    if(NOT CMAKE_CXX_FLAGS MATCHES "-fsanitize=")
      # A call at each load and store, which the emulator's hooks.cpp takes; ThreadSanitizer itself is not linked.
      target_compile_options(${target} PRIVATE -fsanitize=thread)
    endif()
  endfunction()
  add_emulated(convoy_cuda ${CONVOY_CUDA_SOURCES})
  message(STATUS "CUDA emulated: its kernels run on the CPU, slowly")
elseif(CONVOY_CUDA STREQUAL "ON" OR (CONVOY_CUDA STREQUAL "AUTO" AND CONVOY_NVCC))
  if(NOT CMAKE_CUDA_COMPILER AND CONVOY_NVCC)
    set(CMAKE_CUDA_COMPILER ${CONVOY_NVCC})
  endif()
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 75 80 86 89 90)
  endif()
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
  set(CONVOY_HAS_CUDA ON)
  set(CMAKE_CUDA_STANDARD 17)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  add_library(convoy_cuda OBJECT ${CONVOY_CUDA_SOURCES})
  string(REPLACE ";" " " architectures "${CMAKE_CUDA_ARCHITECTURES}")
  target_compile_definitions(convoy_cuda PRIVATE CONVOY_CUDA_ARCHITECTURES="${architectures}")
  target_compile_options(convoy_cuda PRIVATE --extended-lambda -Xcompiler=-Wall,-Wextra -lineinfo
    $<$<BOOL:${CONVOY_WERROR}>:-Werror=all-warnings>)
  target_include_directories(convoy_cuda PRIVATE include ${CMAKE_CURRENT_SOURCE_DIR})
  add_library(convoy_cuda_libraries INTERFACE)
  target_link_libraries(convoy_cuda_libraries INTERFACE CUDA::cudart_static CUDA::cublas ${CMAKE_DL_LIBS})
  message(STATUS "CUDA ${CUDAToolkit_VERSION} for compute capabilities ${architectures}")
else()
  message(STATUS "No CUDA (CONVOY_CUDA=${CONVOY_CUDA}): workers compute on the CPU")
endif()

# nvcc_check compiles the kernels with nvcc, where there is one; not part of `all`.
if(CONVOY_NVCC)
  set(CONVOY_NVCC_ARCHITECTURES 75 80 86 89 90 CACHE STRING "What nvcc_check compiles for")
  add_custom_target(nvcc_check)
  foreach(architecture ${CONVOY_NVCC_ARCHITECTURES})
    list(APPEND gencode -gencode arch=compute_${architecture},code=sm_${architecture})
  endforeach()
  foreach(source ${CONVOY_CUDA_SOURCES})
    get_filename_component(stem ${source} NAME_WE)
    add_custom_target(nvcc_${stem}
      COMMAND ${CONVOY_NVCC} -std=c++17 -O3 ${gencode} --threads 0 --extended-lambda -Werror all-warnings -Xcompiler -Wall,-Wextra
        -Xptxas -v -DCONVOY_CUDA_ARCHITECTURES=\\"check\\" -I${CMAKE_CURRENT_SOURCE_DIR}/include -I${CMAKE_CURRENT_SOURCE_DIR}
        -c ${source} -o ${CMAKE_CURRENT_BINARY_DIR}/nvcc_${stem}.o
      VERBATIM)
    add_dependencies(nvcc_check nvcc_${stem})
  endforeach()
endif()
