/* Frames: COBS(type u8, seq u8, payload, crc16 u16) 0x00. The rules are in docs/protocol.md; numbers in generated/protocol.h. */
#ifndef WIRE_H
#define WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol.h"

#define WIRE_ENCODED_MAX (FRAME_BYTES_MAX + 1u) /* with the delimiter */

enum { WIRE_U8, WIRE_U16, WIRE_I32, WIRE_F32 };

/* A message that a receiver knows. */
typedef struct {
  uint8_t type;
  uint8_t bytes; /* of payload; the least where extensible */
  bool extensible;
} wire_message_t;

/* The base's receive counters since boot, modulo 2^32; see LINK_STATS. */
typedef struct {
  uint32_t ok, bad_cobs, bad_crc, bad_length, unknown_type, bad_value, overflow, repeated, lost;
} wire_counters_t;

/* What a receiver says of one byte. */
typedef struct {
  bool accepted;    /* a frame is complete and valid */
  uint8_t reject;   /* REJECT_*, or 0: a frame was dropped for that reason */
  uint8_t type, seq; /* of the frame, where its CRC was right */
  const uint8_t *payload; /* valid until the next byte */
  uint8_t length;
} wire_result_t;

typedef struct {
  const wire_message_t *messages;
  size_t message_count;
  wire_counters_t counters;
  uint8_t buffer[FRAME_BYTES_MAX];
  uint8_t length, last_seq;
  bool overflowed, seq_known;
} wire_receiver_t;

extern const wire_message_t WIRE_TO_BASE[];
extern const size_t WIRE_TO_BASE_COUNT;

uint16_t wire_crc16(const uint8_t *data, size_t length);
uint32_t wire_crc32(uint32_t crc, const uint8_t *data, size_t length); /* zlib's; begin with 0 */

/* Begins a receiver of the messages given. */
void wire_receiver_init(wire_receiver_t *receiver, const wire_message_t *messages, size_t count);

/* Takes one byte. Never fails: damage is counted and dropped. */
wire_result_t wire_receive(wire_receiver_t *receiver, uint8_t byte);

/* Writes a frame with its delimiter to out (WIRE_ENCODED_MAX bytes); length <= PAYLOAD_BYTES_MAX. Returns its bytes. */
size_t wire_encode(uint8_t *out, uint8_t type, uint8_t seq, const uint8_t *payload, size_t length);

#endif
