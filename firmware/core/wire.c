#include "wire.h"

#include <string.h>

#include "bytes.h"

#define MESSAGE_ROW(type, bytes, extensible) {(type), (bytes), (extensible)},
const wire_message_t WIRE_TO_BASE[] = {WIRE_MESSAGES(MESSAGE_ROW)};
const size_t WIRE_TO_BASE_COUNT = sizeof WIRE_TO_BASE / sizeof WIRE_TO_BASE[0];

typedef struct {
  uint8_t type, at, kind;
  int32_t least, most;
} check_t;
#define CHECK_ROW(type, at, kind, least, most) {(type), (at), (kind), (least), (most)},
static const check_t CHECKS[] = {WIRE_CHECKS(CHECK_ROW)};

uint16_t wire_crc16(const uint8_t *data, size_t length) {
  uint16_t crc = 0xFFFFu;
  for (size_t i = 0; i < length; i++) {
    /* Polynomial 0x1021 a byte at a time, without a table */
    uint16_t x = (uint16_t)((crc >> 8) ^ data[i]);
    x ^= (uint16_t)(x >> 4);
    crc = (uint16_t)((crc << 8) ^ (x << 12) ^ (x << 5) ^ x);
  }
  return crc;
}

uint32_t wire_crc32(uint32_t crc, const uint8_t *data, size_t length) {
  crc = ~crc;
  for (size_t i = 0; i < length; i++) {
    crc ^= data[i];
    for (unsigned bit = 0; bit < 8u; bit++) {
      crc = (crc >> 1) ^ (0xEDB88320u & (0u - (crc & 1u)));
    }
  }
  return ~crc;
}

void wire_receiver_init(wire_receiver_t *receiver, const wire_message_t *messages, size_t count) {
  (void)memset(receiver, 0, sizeof *receiver);
  receiver->messages = messages;
  receiver->message_count = count;
}

/* Decodes in place; returns the decoded length, or -1 where it is no COBS encoding. */
static int decode(uint8_t *data, size_t length) {
  size_t in = 0;
  size_t out = 0;
  while (in < length) {
    size_t code = data[in]; /* never 0: the delimiter ended the frame */
    if (in + code > length) {
      return -1;
    }
    for (size_t i = 1; i < code; i++) {
      data[out] = data[in + i];
      out++;
    }
    in += code;
    if (in < length) { /* a code of 0xFF does not fit into a frame */
      data[out] = 0;
      out++;
    }
  }
  return (int)out;
}

static bool in_range(const check_t *check, const uint8_t *payload) {
  const uint8_t *at = &payload[check->at];
  int32_t value;
  if (check->kind == WIRE_F32) {
    return (get_u32(at) & 0x7F800000u) != 0x7F800000u; /* neither infinite nor NaN */
  }
  if (check->kind == WIRE_I32) {
    value = get_i32(at);
  } else if (check->kind == WIRE_U16) {
    value = (int32_t)get_u16(at);
  } else {
    value = (int32_t)at[0];
  }
  return (value >= check->least) && (value <= check->most);
}

static uint8_t check_payload(const wire_receiver_t *receiver, const wire_result_t *frame) {
  const wire_message_t *message = NULL;
  for (size_t i = 0; i < receiver->message_count; i++) {
    if (receiver->messages[i].type == frame->type) {
      message = &receiver->messages[i];
    }
  }
  if (message == NULL) {
    return REJECT_UNKNOWN_TYPE;
  }
  if ((frame->length < message->bytes) || ((frame->length > message->bytes) && !message->extensible)) {
    return REJECT_BAD_LENGTH;
  }
  for (size_t i = 0; i < sizeof CHECKS / sizeof CHECKS[0]; i++) {
    if ((CHECKS[i].type == frame->type) && !in_range(&CHECKS[i], frame->payload)) {
      return REJECT_BAD_VALUE;
    }
  }
  return 0;
}

/* Counts the gap to the frame before. False: there is no step at all. */
static bool follow(wire_receiver_t *receiver, uint8_t type, uint8_t seq) {
  uint8_t gap = (uint8_t)(seq - receiver->last_seq - 1u);
  bool counts = receiver->seq_known && (type != MSG_HELLO_REQ);
  bool repeated = counts && (seq == receiver->last_seq);
  if (counts && !repeated) {
    receiver->counters.lost += gap;
  }
  receiver->last_seq = seq;
  receiver->seq_known = true;
  return !repeated;
}

static uint8_t accept(wire_receiver_t *receiver, wire_result_t *frame) {
  int decoded = decode(receiver->buffer, receiver->length);
  if (decoded < 0) {
    return REJECT_BAD_COBS;
  }
  if (decoded < 4) {
    return REJECT_BAD_LENGTH;
  }
  size_t body = (size_t)decoded - 2u;
  if (wire_crc16(receiver->buffer, body) != get_u16(&receiver->buffer[body])) {
    return REJECT_BAD_CRC;
  }
  frame->type = receiver->buffer[0];
  frame->seq = receiver->buffer[1];
  frame->payload = &receiver->buffer[2];
  frame->length = (uint8_t)(body - 2u);
  if (!follow(receiver, frame->type, frame->seq)) {
    return REJECT_REPEATED;
  }
  return check_payload(receiver, frame);
}

static void count(wire_counters_t *counters, uint8_t reject) {
  uint32_t *const of[] = {&counters->ok,           &counters->bad_cobs,  &counters->bad_crc,  &counters->bad_length,
                          &counters->unknown_type, &counters->bad_value, &counters->overflow, &counters->repeated};
  (*of[reject])++;
}

wire_result_t wire_receive(wire_receiver_t *receiver, uint8_t byte) {
  wire_result_t result = {0};
  if (byte != 0u) {
    if (receiver->overflowed) {
      return result;
    }
    if (receiver->length == FRAME_BYTES_MAX) {
      receiver->overflowed = true;
      result.reject = REJECT_OVERFLOW;
      count(&receiver->counters, result.reject);
      return result;
    }
    receiver->buffer[receiver->length] = byte;
    receiver->length++;
    return result;
  }
  if ((receiver->length > 0u) && !receiver->overflowed) {
    result.reject = accept(receiver, &result);
    result.accepted = result.reject == 0u;
    count(&receiver->counters, result.reject);
  }
  receiver->length = 0;
  receiver->overflowed = false;
  return result;
}

size_t wire_encode(uint8_t *out, uint8_t type, uint8_t seq, const uint8_t *payload, size_t length) {
  uint8_t body[PAYLOAD_BYTES_MAX + 4u];
  body[0] = type;
  body[1] = seq;
  for (size_t i = 0; i < length; i++) {
    body[i + 2u] = payload[i];
  }
  put_u16(&body[length + 2u], wire_crc16(body, length + 2u));
  size_t code_at = 0;
  size_t at = 1;
  for (size_t i = 0; i < length + 4u; i++) {
    if (body[i] == 0u) {
      out[code_at] = (uint8_t)(at - code_at);
      code_at = at;
    } else {
      out[at] = body[i];
    }
    at++;
  }
  out[code_at] = (uint8_t)(at - code_at);
  out[at] = 0;
  return at + 1u;
}
