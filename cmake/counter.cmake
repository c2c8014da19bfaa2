# crowd::counter: shared, so that programs that link it need neither pybind11 nor Python's headers.
set(PYBIND11_FINDPYTHON ON)
find_package(Python 3.11 REQUIRED COMPONENTS Interpreter Development.Module Development.Embed)
find_package(pybind11 2.13 CONFIG REQUIRED)

add_library(crowd_counter SHARED
  csrc/counter/convert.cpp
  csrc/counter/counter.cpp
  csrc/counter/interpreter.cpp)
add_library(crowd::counter ALIAS crowd_counter)
target_include_directories(crowd_counter PUBLIC
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/csrc/include> $<INSTALL_INTERFACE:include>)
target_compile_features(crowd_counter PUBLIC cxx_std_17)
target_link_libraries(crowd_counter PRIVATE pybind11::embed Threads::Threads ${CMAKE_DL_LIBS})
set_target_properties(crowd_counter PROPERTIES
  EXPORT_NAME counter
  VERSION ${PROJECT_VERSION}
  SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
  WINDOWS_EXPORT_ALL_SYMBOLS ON
  # Libpython may lie in a folder of its own.
  INSTALL_RPATH_USE_LINK_PATH ON)
target_compile_options(crowd_counter PRIVATE ${crowd_warnings})
