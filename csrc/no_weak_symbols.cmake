# SPDX-License-Identifier: MIT
# Fails when an object of kernels/ defines a weak symbol. The linker keeps one of several weak symbols
# of the same name, so code compiled for AVX-512 could end up in the AVX2 path and crash an older CPU.
# Usage: cmake -DNM=nm -DOBJECTS="a.o;b.o" -P no_weak_symbols.cmake
foreach(object IN LISTS OBJECTS)
  execute_process(COMMAND ${NM} --defined-only ${object} OUTPUT_VARIABLE symbols
                  COMMAND_ERROR_IS_FATAL ANY)
  if(symbols MATCHES "[^\n]* [WVuvw] [^\n]*")
    message(FATAL_ERROR "${object} defines a weak symbol: ${CMAKE_MATCH_0}")
  endif()
endforeach()
