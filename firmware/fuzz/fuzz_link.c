/* libFuzzer on all that the link can bring: bytes into a base that stands in IDLE, one control period after each frame.
 * `make -C firmware fuzz` builds it; `dsac-robot bench firmware` runs it. An input is what comes over the wire. */
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "hal.h"

extern base_t host_base;
void host_flash_erase_all(void);
uint8_t *host_flash(void);
void host_boot(uint8_t reset_cause, const base_inputs_t *inputs, uint64_t now_us);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds) {
  if (!holds) {
    abort();
  }
}

static uint8_t flash[2u * HAL_FLASH_PAGE_BYTES]; /* as the first boot left it */

/* What must hold of each frame that the parser takes, whatever came before. */
static void check_frame(const wire_result_t *frame, const uint8_t *encoded, size_t length) {
  uint8_t again[WIRE_ENCODED_MAX];
  check(frame->length <= PAYLOAD_BYTES_MAX);
  check(wire_encode(again, frame->type, frame->seq, frame->payload, frame->length) == length);
  check(memcmp(again, encoded, length) == 0); /* a message has one encoding */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static base_t booted;
  static wire_receiver_t receiver;
  base_inputs_t inputs = {.accel_um_s2 = {0, 0, 9806650}, .battery_adc_uv = 2272727, .imu_valid = true, .timing_trusted = true};
  base_outputs_t outputs;
  uint64_t now_us = 1000000;
  size_t begin = 0;
  uint32_t frames = 0;
  if (booted.boot_us == 0u) {
    host_flash_erase_all();
    host_boot(RESET_POWER_ON, &inputs, now_us);
    booted = host_base;
    memcpy(flash, host_flash(), sizeof flash);
  }
  host_base = booted;
  memcpy(host_flash(), flash, sizeof flash);
  wire_receiver_init(&receiver, WIRE_TO_BASE, WIRE_TO_BASE_COUNT);
  for (size_t i = 0; i < size; i++) {
    uint8_t out[256];
    wire_result_t frame = wire_receive(&receiver, data[i]);
    check(!frame.accepted || (frame.reject == 0u));
    if (frame.accepted) {
      check_frame(&frame, &data[begin], i + 1u - begin);
    }
    base_receive(&host_base, &data[i], 1, now_us);
    if (data[i] == 0u) {
      begin = i + 1u;
      frames++;
      now_us += CONTROL_PERIOD_US;
      base_tick(&host_base, &inputs, now_us, &outputs);
      check(host_base.machine.state <= STATE_FAULT);
      check((outputs.enable != 0) || ((outputs.left_duty_e4 == 0) && (outputs.right_duty_e4 == 0)));
      while (base_transmit(&host_base, out, sizeof out) > 0u) {
      }
    }
  }
  const wire_counters_t *c = &receiver.counters;
  check(memcmp(c, &host_base.receiver.counters, sizeof *c) == 0);
  check((c->ok + c->bad_cobs + c->bad_crc + c->bad_length + c->unknown_type + c->bad_value + c->repeated) <= frames);
  return 0;
}

/* Takes one frame of an input apart, repairs its CRC and puts it together again. Returns its new length. */
static size_t repair(const uint8_t *encoded, size_t length, uint8_t *out) {
  uint8_t body[FRAME_BYTES_MAX];
  size_t size = 0;
  for (size_t in = 0; (in < length) && (size < sizeof body);) {
    size_t code = encoded[in];
    for (size_t i = 1; (i < code) && ((in + i) < length) && (size < sizeof body); i++) {
      body[size] = encoded[in + i];
      size++;
    }
    in += code;
    if ((in < length) && (size < sizeof body)) {
      body[size] = 0;
      size++;
    }
  }
  if ((size < 4u) || ((size - 4u) > PAYLOAD_BYTES_MAX)) {
    return 0;
  }
  return wire_encode(out, body[0], body[1], &body[2], size - 4u);
}

/* Damage as libFuzzer does it, and in half of the cases right checksums after it: by chance there would be none. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed) {
  static uint8_t made[1u << 16];
  size_t at = 0;
  size_t begin = 0;
  size = LLVMFuzzerMutate(data, size, most);
  if ((seed & 1u) != 0u) {
    return size;
  }
  for (size_t i = 0; i < size; i++) {
    if ((data[i] == 0u) && ((at + WIRE_ENCODED_MAX) < sizeof made)) {
      at += repair(&data[begin], i - begin, &made[at]);
      begin = i + 1u;
    }
  }
  at = (at < most) ? at : most;
  memcpy(data, made, at);
  return (at > 0u) ? at : size;
}
