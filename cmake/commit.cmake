# Writes OUT, a header with the version and git's commit, when they changed. Run at every build.
#   cmake -DSOURCE=<tree> -DOUT=<header> -DVERSION=<x.y.z> -DCOMPILER=<name and version> -P commit.cmake
set(commit unknown)
find_program(GIT git)
get_filename_component(SOURCE ${SOURCE} REALPATH)
if(GIT)
  # A source archive unpacked inside of somebody else's repository has no commit of its own.
  execute_process(COMMAND ${GIT} -C ${SOURCE} rev-parse --show-toplevel OUTPUT_VARIABLE top
                  OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  execute_process(COMMAND ${GIT} -C ${SOURCE} rev-parse --verify HEAD OUTPUT_VARIABLE hash RESULT_VARIABLE failed
                  OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(NOT failed AND top STREQUAL SOURCE)
    set(commit ${hash})
    execute_process(COMMAND ${GIT} -C ${SOURCE} diff --quiet HEAD -- RESULT_VARIABLE changed ERROR_QUIET)
    if(changed)
      string(APPEND commit -dirty)
    endif()
  endif()
endif()
set(content "#define CONVOY_VERSION \"${VERSION}\"\n#define CONVOY_COMMIT \"${commit}\"\n")
string(APPEND content "#define CONVOY_COMPILER \"${COMPILER}\"\n")
set(old "")
if(EXISTS ${OUT})
  file(READ ${OUT} old)
endif()
if(NOT content STREQUAL old)
  file(WRITE ${OUT} "${content}")
endif()
