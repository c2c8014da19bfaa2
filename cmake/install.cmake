# What `cmake --install` puts in place: headers, libraries, and a package that find_package(crowd) reads.
include(CMakePackageConfigHelpers)

set(crowd_package lib/cmake/crowd)

function(crowd_install component)
  install(TARGETS crowd_${component} EXPORT crowd-${component}
    RUNTIME DESTINATION bin LIBRARY DESTINATION lib ARCHIVE DESTINATION lib)
  install(EXPORT crowd-${component} NAMESPACE crowd:: DESTINATION ${crowd_package})
endfunction()

crowd_install(kernels)
install(DIRECTORY csrc/include/crowd DESTINATION include FILES_MATCHING PATTERN "*.h" PATTERN counter.h EXCLUDE)
if(CROWD_COUNTER)
  crowd_install(counter)
  install(FILES csrc/include/crowd/counter.h DESTINATION include/crowd)
endif()

configure_package_config_file(cmake/crowd-config.cmake.in crowd-config.cmake INSTALL_DESTINATION ${crowd_package})
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file(crowd-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES
  ${CMAKE_CURRENT_BINARY_DIR}/crowd-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/crowd-config-version.cmake
  DESTINATION ${crowd_package})
