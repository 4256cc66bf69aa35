# Libraries for what Convoy does not exist for: the system's copy where there is one, else the pinned source below. A machine
# without network sets FETCHCONTENT_SOURCE_DIR_<NAME> (the names in capitals) to an unpacked copy of it.
include(FetchContent)
include(ExternalProject)

# name, repository, full hash of a release's commit. No name moves with a branch or a tag.
function(convoy_source name repository commit)
  message(STATUS "${name} was not found: building ${repository} at ${commit}")
  # SOURCE_SUBDIR names nothing: the source is made available, its own CMakeLists.txt is not read.
  FetchContent_Declare(${name} GIT_REPOSITORY ${repository} GIT_TAG ${commit} SOURCE_SUBDIR not-part-of-this-build)
  FetchContent_MakeAvailable(${name})
  string(TOLOWER ${name} lower)
  set(${name}_SOURCE_DIR ${${lower}_SOURCE_DIR} PARENT_SCOPE)
endfunction()

function(convoy_header_library target source include_dir)
  add_library(${target} INTERFACE IMPORTED GLOBAL)
  set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES ${source}/${include_dir}
                        INTERFACE_SYSTEM_INCLUDE_DIRECTORIES ${source}/${include_dir})
endfunction()

# A C library, built by its own CMakeLists.txt as a static library under <build>/_deps/local.
set(CONVOY_LOCAL ${CMAKE_BINARY_DIR}/_deps/local)
function(convoy_c_library target name source archive)
  file(MAKE_DIRECTORY ${CONVOY_LOCAL}/include)
  ExternalProject_Add(build_${name} SOURCE_DIR ${source} BINARY_DIR ${CMAKE_BINARY_DIR}/_deps/${name}-build
    PREFIX ${CMAKE_BINARY_DIR}/_deps/${name} BUILD_BYPRODUCTS ${CONVOY_LOCAL}/lib/${archive}
    CMAKE_ARGS -DCMAKE_INSTALL_PREFIX=${CONVOY_LOCAL} -DCMAKE_INSTALL_LIBDIR=lib -DCMAKE_BUILD_TYPE=Release
    -DCMAKE_POSITION_INDEPENDENT_CODE=ON -DCMAKE_PREFIX_PATH=${CONVOY_LOCAL} ${ARGN})
  add_library(${target} STATIC IMPORTED GLOBAL)
  set_target_properties(${target} PROPERTIES IMPORTED_LOCATION ${CONVOY_LOCAL}/lib/${archive}
                        INTERFACE_INCLUDE_DIRECTORIES ${CONVOY_LOCAL}/include)
  add_dependencies(${target} build_${name})
endfunction()

find_package(Threads REQUIRED)
find_package(CLI11 QUIET)
if(NOT CLI11_FOUND)
  convoy_source(CLI11 https://github.com/CLIUtils/CLI11.git 4160d259d961cd393fd8d67590a8c7d210207348)  # 2.5.0
  convoy_header_library(CLI11::CLI11 ${CLI11_SOURCE_DIR} include)
endif()
find_package(tomlplusplus QUIET)
if(NOT tomlplusplus_FOUND)
  convoy_source(tomlplusplus https://github.com/marzer/tomlplusplus.git 30172438cee64926dc41fdd9c11fb3ba5b2ba9de)  # 3.4.0
  convoy_header_library(tomlplusplus::tomlplusplus ${tomlplusplus_SOURCE_DIR} include)
endif()
find_package(nlohmann_json QUIET)
if(NOT nlohmann_json_FOUND)
  convoy_source(nlohmann_json https://github.com/nlohmann/json.git 9cca280a4d0ccf0c08f47a99aa71d1b0e52f8d03)  # 3.11.3
  convoy_header_library(nlohmann_json::nlohmann_json ${nlohmann_json_SOURCE_DIR} include)
endif()
find_package(ZLIB QUIET)
if(NOT ZLIB_FOUND)
  convoy_source(zlib https://github.com/madler/zlib.git 51b7f2abdade71cd9bb0e7a373ef2610ec6f9daf)  # 1.3.1
  convoy_c_library(ZLIB::ZLIB zlib ${zlib_SOURCE_DIR} libz.a -DZLIB_BUILD_EXAMPLES=OFF)
endif()
find_package(JPEG QUIET)
if(NOT JPEG_FOUND)
  convoy_source(libjpeg-turbo https://github.com/libjpeg-turbo/libjpeg-turbo.git
                f29eda648547b36aa594c4116c7764a6c8a079b9)  # 3.0.4
  convoy_c_library(JPEG::JPEG libjpeg-turbo ${libjpeg-turbo_SOURCE_DIR} libjpeg.a -DENABLE_SHARED=OFF -DWITH_TURBOJPEG=OFF)
endif()
find_package(PNG QUIET)
if(NOT PNG_FOUND)
  convoy_source(libpng https://github.com/pnggroup/libpng.git f5e92d76973a7a53f517579bc95d61483bf108c0)  # 1.6.44
  convoy_c_library(PNG::PNG libpng ${libpng_SOURCE_DIR} libpng16.a -DPNG_SHARED=OFF -DPNG_TESTS=OFF -DPNG_TOOLS=OFF)
  target_link_libraries(PNG::PNG INTERFACE ZLIB::ZLIB)
  if(NOT ZLIB_FOUND)
    add_dependencies(build_libpng build_zlib)
  endif()
endif()

add_library(convoy_dependencies INTERFACE)
target_link_libraries(convoy_dependencies INTERFACE Threads::Threads ZLIB::ZLIB JPEG::JPEG PNG::PNG CLI11::CLI11
                      tomlplusplus::tomlplusplus nlohmann_json::nlohmann_json)

if(CONVOY_TESTS)
  find_package(GTest QUIET)
  if(NOT GTest_FOUND)
    set(INSTALL_GTEST OFF CACHE BOOL "" FORCE)
    set(BUILD_GMOCK OFF CACHE BOOL "" FORCE)
    FetchContent_Declare(googletest GIT_REPOSITORY https://github.com/google/googletest.git
                         GIT_TAG f8d7d77c06936315286eb55f8de22cd23c188571)  # 1.14.0
    FetchContent_MakeAvailable(googletest)
  endif()
endif()
