# Run-time checks of everything that is built after this: -DCROWD_SANITIZE=address,undefined or thread.
set(CROWD_SANITIZE "" CACHE STRING "Sanitizers, as after -fsanitize=; empty for none")

if(CROWD_SANITIZE)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
    message(FATAL_ERROR "CROWD_SANITIZE needs GCC or Clang, got ${CMAKE_CXX_COMPILER_ID}")
  endif()
  # -O1 keeps the stack traces readable, and stands after the build type's own level.
  add_compile_options(-fsanitize=${CROWD_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g -O1)
  add_link_options(-fsanitize=${CROWD_SANITIZE})
endif()
