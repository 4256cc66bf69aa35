# Writes models.cpp: every src/models/*.net as text (src/models.h declares the table).
file(GLOB CONVOY_MODELS CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/src/models/*.net)
list(SORT CONVOY_MODELS)
set(CONVOY_MODELS_CPP ${CMAKE_CURRENT_BINARY_DIR}/models.cpp)
set(content "#include \"models.h\"\n\nnamespace convoy {\n\nconst BuiltinNet kBuiltinNets[] = {\n")
foreach(file ${CONVOY_MODELS})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
  get_filename_component(name ${file} NAME_WE)
  file(READ ${file} net)
  string(APPEND content "    {\"${name}\", R\"NET(${net})NET\"},\n")
endforeach()
string(APPEND content "    {nullptr, nullptr},\n};\n\n}  // namespace convoy\n")
file(CONFIGURE OUTPUT ${CONVOY_MODELS_CPP} CONTENT "${content}" @ONLY)  # written only when it changed
