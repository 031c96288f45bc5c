# Tests that are scripts: what the library exports, what its header promises, how its sources are written, how it installs.
find_package(Python3 3.9 COMPONENTS Interpreter REQUIRED)

function(llmo_script_test name)
  add_test(NAME ${name} COMMAND ${ARGN})
  set_tests_properties(${name} PROPERTIES TIMEOUT 900 SKIP_RETURN_CODE 77)
endfunction()

set(scripts ${CMAKE_SOURCE_DIR}/tests/scripts)
set(abi ${CMAKE_SOURCE_DIR}/tests/abi)
set(header ${CMAKE_SOURCE_DIR}/include/llmoffload.h)

# --- the header and the sources -----------------------------------------------------------------------------------
llmo_script_test(header_compiles_alone sh ${abi}/header_alone.sh ${CMAKE_SOURCE_DIR}/include)
llmo_script_test(header_documents_everything ${Python3_EXECUTABLE} ${abi}/header.py ${header} docs)
llmo_script_test(source_rules ${Python3_EXECUTABLE} ${scripts}/source_rules.py ${CMAKE_SOURCE_DIR})

# --- the layout of structs on 64-bit machines -----------------------------------------------------------------------
if(CMAKE_SIZEOF_VOID_P EQUAL 8)
  set(layout_c ${CMAKE_CURRENT_BINARY_DIR}/layout.c)
  add_custom_command(OUTPUT ${layout_c} DEPENDS ${abi}/header.py ${header} VERBATIM
                     COMMAND ${Python3_EXECUTABLE} ${abi}/header.py ${header} layout > ${layout_c})
  add_executable(abi_layout ${layout_c})
  target_include_directories(abi_layout PRIVATE ${CMAKE_SOURCE_DIR}/include)
  llmo_script_test(abi_layout sh ${abi}/same_output.sh ${abi}/layout.expected $<TARGET_FILE:abi_layout>)
endif()

# --- the libraries as built (sanitizers add symbols of their own, and their runtime must come first) ------------------
if(NOT LLMO_SANITIZE)
  llmo_script_test(abi_symbols sh ${abi}/symbols.sh $<TARGET_FILE:llmoffload> ${abi} ${header} ${Python3_EXECUTABLE})
  llmo_script_test(abi_static_symbols sh ${abi}/static_symbols.sh $<TARGET_FILE:llmoffload_static>)
  llmo_script_test(abi_undefined sh ${abi}/undefined.sh $<TARGET_FILE:llmoffload> $<TARGET_FILE:llmoffload_static>
                   $<BOOL:${llmo_cuda_libs}>)
  foreach(way installed source)
    llmo_script_test(consumer_${way} sh ${CMAKE_SOURCE_DIR}/tests/consumer/run.sh ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR}
                     ${PROJECT_VERSION} ${way})
  endforeach()
  if(EXISTS ${scripts}/test_python.py)
    llmo_script_test(python ${Python3_EXECUTABLE} ${scripts}/test_python.py ${CMAKE_BINARY_DIR})
  endif()
endif()

if(LLMO_TOOLS AND EXISTS ${scripts}/test_cli.py)
  llmo_script_test(cli ${Python3_EXECUTABLE} ${scripts}/test_cli.py ${CMAKE_BINARY_DIR})
endif()

if(LLMO_TOOLS)
  llmo_script_test(readme ${Python3_EXECUTABLE} ${scripts}/test_readme.py ${CMAKE_BINARY_DIR})
endif()
