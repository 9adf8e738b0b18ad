/* The base: everything behind the hardware. The port calls base_receive with bytes, base_tick each control period, and
 * sends what base_transmit gives. Time is an argument; only the parameter store calls the HAL (flash). */
#ifndef BASE_H
#define BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "machine.h"
#include "params.h"
#include "wheel.h"
#include "wire.h"

#define TX_BYTES 2048u
#define NACK_BURST 10u /* refusals that are answered at once */

/* What the processor wrote down when it crashed. */
typedef struct {
  uint64_t t_us;
  uint32_t boots, pc, lr, cfsr, fault_address;
  uint8_t reset_cause; /* 0: there is no record */
} base_crash_t;

/* What a boot knows. */
typedef struct {
  uint8_t board, reset_cause, dirty;
  uint8_t git[4], build_id[8];
  base_crash_t crash;
} base_boot_t;

/* What the sensors say; read just before each control period. */
typedef struct {
  int32_t left_count, right_count; /* encoder counters, modulo 2^32 */
  int32_t gyro_urad_s[3], accel_um_s2[3];
  int16_t imu_cdegc, mcu_degc;
  uint32_t battery_adc_uv; /* at the ADC's pin */
  int32_t battery_ma;
  uint32_t uart_errors, missed_ticks; /* since boot */
  uint16_t loop_us; /* the longest control step since the one before */
  bool imu_valid, estop_pressed, overcurrent;
  bool timing_trusted; /* false under an emulator in real time: jumps and missed periods are the emulator's, no fault */
} base_inputs_t;

/* What the motors get: drive in 1e-4 with the motors' signs, and the enable line. */
typedef struct {
  int16_t left_duty_e4, right_duty_e4;
  bool enable;
} base_outputs_t;

typedef struct {
  base_boot_t boot;
  machine_t machine;
  params_t params;
  store_t store;
  wheel_t wheels[2];
  wire_receiver_t receiver;
  uint64_t boot_us, tick_us, imu_us; /* boot; last control period; last valid IMU sample */
  uint32_t ticks;
  float battery_v;        /* filtered */
  float undervoltage_s;
  uint32_t overrun_base;  /* missed_ticks a second ago */
  uint16_t loop_us_max;
  uint8_t nack_tokens;
  uint64_t nack_us; /* last token was given */
  uint8_t tx_seq;
  uint32_t tx_dropped;
  uint8_t tx[TX_BYTES];
  uint32_t tx_head, tx_tail; /* free running */
} base_t;

/* Boots: loads parameters, counts the boot, sends HELLO. */
void base_init(base_t *base, const base_boot_t *boot, const base_inputs_t *inputs, uint64_t now_us);
void base_receive(base_t *base, const uint8_t *data, size_t length, uint64_t now_us);
/* One control period; at least 1 us after the one before. */
void base_tick(base_t *base, const base_inputs_t *inputs, uint64_t now_us, base_outputs_t *outputs);
/* Takes up to `most` bytes that wait to be sent. */
size_t base_transmit(base_t *base, uint8_t *out, size_t most);

/* telemetry.c */
void base_send(base_t *base, uint8_t type, const uint8_t *payload, size_t length);
void base_send_hello(base_t *base, uint32_t nonce);
void base_send_events(base_t *base);
void base_send_nack(base_t *base, uint8_t type, uint8_t seq, uint8_t reason, uint64_t now_us);
void base_send_telemetry(base_t *base, const base_inputs_t *inputs, const base_outputs_t *outputs, uint64_t now_us);

#endif
