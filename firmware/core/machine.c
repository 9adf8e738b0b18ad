#include "machine.h"

#include <string.h>

void machine_event(machine_t *machine, uint8_t code, uint32_t value, uint64_t now_us) {
  if (machine->event_count < MACHINE_EVENTS) {
    machine->events[machine->event_count] = (machine_event_t){code, machine->state, value, now_us};
    machine->event_count++;
  }
}

static void enter(machine_t *machine, uint8_t state, uint64_t now_us) {
  uint8_t before = machine->state;
  machine->state = state;
  machine->left_mradps = 0;
  machine->right_mradps = 0;
  machine_event(machine, EVENT_STATE_CHANGED, before, now_us);
}

static void begin_ramp(machine_t *machine, uint8_t state, uint64_t now_us) {
  machine->ramp_us = now_us;
  machine->slow_us = 0;
  enter(machine, state, now_us);
}

void machine_init(machine_t *machine, uint16_t faults, uint16_t first_session) {
  (void)memset(machine, 0, sizeof *machine);
  machine->state = STATE_INIT;
  machine->faults = faults;
  machine->last_session = first_session;
}

bool machine_enabled(const machine_t *machine) {
  return (machine->state == STATE_ACTIVE) || (machine->state == STATE_STOPPING) || (machine->state == STATE_DISARMING);
}

void machine_heard(machine_t *machine, uint64_t now_us) { machine->heard_us = now_us; }

static void end_session(machine_t *machine, uint64_t now_us) {
  machine->session = 0;
  machine->has_fresh = false;
  if (machine->state == STATE_ACTIVE) {
    begin_ramp(machine, STATE_STOPPING, now_us);
  }
}

void machine_hello(machine_t *machine, uint16_t proto, uint32_t nonce, uint64_t now_us) {
  if ((machine->session != 0u) && (machine->nonce == nonce)) {
    return; /* HELLO_REQ came again: the same session */
  }
  end_session(machine, now_us);
  machine->last_session = (uint16_t)((machine->last_session % 65535u) + 1u); /* never 0 */
  machine->session = machine->last_session;
  machine->nonce = nonce;
  machine->version_ok = proto == PROTOCOL_VERSION;
  machine->heard_us = now_us;
  machine_event(machine, EVENT_SESSION_STARTED, machine->session, now_us);
}

uint8_t machine_session_check(const machine_t *machine, uint16_t session) {
  return ((session != 0u) && (session == machine->session)) ? 0u : NACK_BAD_SESSION;
}

static uint8_t arm(machine_t *machine, uint64_t now_us) {
  if (!machine->version_ok) {
    return NACK_BAD_VERSION;
  }
  if (machine->state == STATE_IDLE) {
    machine->alive_us = now_us;
    enter(machine, STATE_ACTIVE, now_us);
  }
  return (machine->state == STATE_ACTIVE) ? 0u : NACK_BAD_STATE;
}

static uint8_t clear(machine_t *machine, uint64_t now_us) {
  if (machine->state == STATE_IDLE) {
    return 0; /* came again */
  }
  if ((machine->state != STATE_ESTOP) && (machine->state != STATE_FAULT)) {
    return NACK_BAD_STATE;
  }
  if (machine->estop_pressed) {
    return NACK_ESTOP_PRESSED;
  }
  if (machine->faults_present != 0u) {
    return NACK_FAULT_PRESENT;
  }
  if (machine->faults != 0u) {
    uint16_t cleared = machine->faults;
    machine->faults = 0;
    machine_event(machine, EVENT_FAULT_CLEARED, cleared, now_us);
  }
  enter(machine, STATE_IDLE, now_us);
  return 0;
}

uint8_t machine_request(machine_t *machine, uint8_t request, uint32_t magic, uint16_t session, uint64_t now_us) {
  static const uint32_t MAGIC[] = {0, MAGIC_DISARM, MAGIC_ARM, MAGIC_CLEAR, MAGIC_ESTOP};
  if (magic != MAGIC[request]) {
    return NACK_BAD_MAGIC;
  }
  if (request == REQUEST_ESTOP) {
    if (machine->state != STATE_ESTOP) {
      enter(machine, STATE_ESTOP, now_us);
      machine_event(machine, EVENT_ESTOP_PRESSED, 1, now_us);
    }
    return 0;
  }
  if (request == REQUEST_DISARM) {
    if (machine->state == STATE_ACTIVE) {
      begin_ramp(machine, STATE_DISARMING, now_us);
    } else if (machine->state == STATE_STOPPING) {
      enter(machine, STATE_DISARMING, now_us); /* the ramp goes on */
    } else {
      /* motors are off, or will be */
    }
    return 0;
  }
  if (machine_session_check(machine, session) != 0u) {
    return NACK_BAD_SESSION;
  }
  return (request == REQUEST_ARM) ? arm(machine, now_us) : clear(machine, now_us);
}

uint8_t machine_command(machine_t *machine, const int32_t mradps[2], uint16_t session, uint64_t stamp_us, uint8_t seq,
                        uint64_t now_us) {
  if (machine_session_check(machine, session) != 0u) {
    return NACK_BAD_SESSION;
  }
  if ((stamp_us > now_us) && ((stamp_us - now_us) > COMMAND_AHEAD_US_MAX)) {
    return NACK_FUTURE_STAMP;
  }
  if ((now_us > stamp_us) && ((now_us - stamp_us) > COMMAND_AGE_US_MAX)) {
    return NACK_STALE_STAMP;
  }
  if (machine->has_fresh && (stamp_us <= machine->stamp_us)) {
    return NACK_STALE_STAMP;
  }
  machine->has_fresh = true;
  machine->stamp_us = stamp_us;
  machine->fresh_us = now_us;
  machine->cmd_seq = seq;
  if (machine->state != STATE_ACTIVE) {
    return NACK_BAD_STATE;
  }
  machine->alive_us = now_us;
  machine->left_mradps = mradps[0];
  machine->right_mradps = mradps[1];
  return 0;
}

static void step_estop(machine_t *machine, bool pressed, uint64_t now_us) {
  bool edge = pressed != machine->estop_pressed;
  machine->estop_pressed = pressed;
  if (pressed && (machine->state != STATE_ESTOP)) {
    enter(machine, STATE_ESTOP, now_us);
  }
  if (edge) {
    machine_event(machine, pressed ? EVENT_ESTOP_PRESSED : EVENT_ESTOP_RELEASED, 0, now_us);
  }
}

static void step_faults(machine_t *machine, uint16_t present, uint64_t now_us) {
  uint16_t raised = (uint16_t)(present & (uint16_t)~machine->faults);
  machine->faults_present = present;
  machine->faults |= present;
  for (uint16_t bit = 1; bit <= FAULT_INTERNAL; bit = (uint16_t)(bit << 1)) {
    if ((raised & bit) != 0u) {
      machine_event(machine, EVENT_FAULT_RAISED, bit, now_us);
    }
  }
  bool latched = (machine->state == STATE_ESTOP) || (machine->state == STATE_FAULT);
  if ((machine->faults != 0u) && !latched && (machine->state != STATE_INIT)) {
    enter(machine, STATE_FAULT, now_us);
  }
}

static void step_watchdogs(machine_t *machine, uint64_t now_us) {
  /* One period early: the ramp must begin before the time is over, not with the first step after it. */
  uint64_t age_us = now_us - machine->alive_us;
  if ((machine->state == STATE_ACTIVE) && ((age_us + CONTROL_PERIOD_US) > COMMAND_TIMEOUT_US)) {
    begin_ramp(machine, STATE_STOPPING, now_us);
    machine_event(machine, EVENT_COMMAND_TIMEOUT, (uint32_t)age_us, now_us);
  }
  if ((machine->session != 0u) && ((now_us - machine->heard_us) >= LINK_TIMEOUT_US)) {
    uint16_t session = machine->session;
    end_session(machine, now_us);
    machine_event(machine, EVENT_LINK_LOST, session, now_us);
  }
}

static void step_ramp(machine_t *machine, const machine_inputs_t *inputs, uint64_t now_us) {
  if (!inputs->slow || (machine->state == STATE_ACTIVE)) {
    return;
  }
  if (machine->slow_us == 0u) {
    machine->slow_us = now_us;
  }
  if (inputs->at_rest) {
    enter(machine, STATE_IDLE, now_us);
    machine_event(machine, EVENT_AT_REST, (uint32_t)(now_us - machine->ramp_us), now_us);
  } else if ((now_us - machine->slow_us) >= REST_GRACE_US) {
    enter(machine, STATE_IDLE, now_us);
  } else {
    /* the controller still brakes */
  }
}

void machine_step(machine_t *machine, const machine_inputs_t *inputs, uint64_t now_us) {
  step_estop(machine, inputs->estop_pressed, now_us);
  if ((machine->state == STATE_INIT) && inputs->ready) {
    enter(machine, STATE_IDLE, now_us); /* and on to FAULT below where the boot brought one */
  }
  step_faults(machine, inputs->faults_present, now_us);
  step_watchdogs(machine, now_us);
  if (machine_enabled(machine)) {
    step_ramp(machine, inputs, now_us);
  }
}
