/* Little-endian numbers in byte buffers. Any alignment. */
#ifndef BYTES_H
#define BYTES_H

#include <stdint.h>
#include <string.h>

static inline uint64_t get_le(const uint8_t *at, unsigned bytes) {
  uint64_t value = 0;
  for (unsigned i = bytes; i > 0u; i--) {
    value = (value << 8) | at[i - 1u];
  }
  return value;
}

static inline void put_le(uint8_t *at, uint64_t value, unsigned bytes) {
  for (unsigned i = 0; i < bytes; i++) {
    at[i] = (uint8_t)(value >> (8u * i));
  }
}

static inline uint16_t get_u16(const uint8_t *at) { return (uint16_t)get_le(at, 2); }
static inline uint32_t get_u32(const uint8_t *at) { return (uint32_t)get_le(at, 4); }
static inline uint64_t get_u64(const uint8_t *at) { return get_le(at, 8); }
static inline int32_t get_i32(const uint8_t *at) { return (int32_t)get_u32(at); }
static inline void put_u16(uint8_t *at, uint16_t value) { put_le(at, value, 2); }
static inline void put_u32(uint8_t *at, uint32_t value) { put_le(at, value, 4); }
static inline void put_u64(uint8_t *at, uint64_t value) { put_le(at, value, 8); }
static inline void put_i16(uint8_t *at, int16_t value) { put_le(at, (uint16_t)value, 2); }
static inline void put_i32(uint8_t *at, int32_t value) { put_le(at, (uint32_t)value, 4); }

static inline float get_f32(const uint8_t *at) {
  uint32_t bits = get_u32(at);
  float value;
  (void)memcpy(&value, &bits, sizeof value);
  return value;
}

static inline void put_f32(uint8_t *at, float value) {
  uint32_t bits;
  (void)memcpy(&bits, &value, sizeof bits);
  put_u32(at, bits);
}

#endif
