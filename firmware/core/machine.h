/* The state machine: session, arming, watchdogs, latches. Pure; tests/firmware/model.py is its model. */
#ifndef MACHINE_H
#define MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol.h"

#define CONTROL_PERIOD_US 5000u
#define REST_GRACE_US 300000u /* a ramp has ended and the wheels still turn: give up and switch off */
#define MACHINE_EVENTS 24u    /* more than one step can make */

typedef struct {
  uint8_t code, state;
  uint32_t value;
  uint64_t t_us;
} machine_event_t;

typedef struct {
  uint8_t state;
  bool estop_pressed, version_ok, has_fresh;
  uint16_t faults, faults_present;
  uint16_t session, last_session;
  uint32_t nonce;
  uint64_t heard_us;  /* last valid frame */
  uint64_t alive_us;  /* last fresh command, or ARM if later: what the command watchdog counts from */
  uint64_t fresh_us, stamp_us; /* last fresh command: arrival, stamp */
  uint64_t ramp_us, slow_us;   /* ramp began; its set points reached zero (0: not yet) */
  uint8_t cmd_seq;
  int32_t left_mradps, right_mradps; /* the command in effect; 0 unless ACTIVE */
  machine_event_t events[MACHINE_EVENTS];
  uint8_t event_count;
} machine_t;

/* What one control period tells the machine. */
typedef struct {
  uint16_t faults_present;
  bool estop_pressed;
  bool ready;    /* self test is over */
  bool slow;     /* set points are zero */
  bool at_rest;  /* wheels are */
} machine_inputs_t;

/* faults: those of the boot itself, latched from the start. Sessions count on from first_session. */
void machine_init(machine_t *machine, uint16_t faults, uint16_t first_session);
void machine_heard(machine_t *machine, uint64_t now_us);
void machine_hello(machine_t *machine, uint16_t proto, uint32_t nonce, uint64_t now_us);
/* These return NACK_* or 0. */
uint8_t machine_session_check(const machine_t *machine, uint16_t session);
uint8_t machine_request(machine_t *machine, uint8_t request, uint32_t magic, uint16_t session, uint64_t now_us);
uint8_t machine_command(machine_t *machine, const int32_t mradps[2], uint16_t session, uint64_t stamp_us, uint8_t seq,
                        uint64_t now_us);
void machine_step(machine_t *machine, const machine_inputs_t *inputs, uint64_t now_us);
bool machine_enabled(const machine_t *machine); /* the motors' enable line */
void machine_event(machine_t *machine, uint8_t code, uint32_t value, uint64_t now_us);

#endif
