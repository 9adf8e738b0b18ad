/* The part of the HAL that speaks of the core's types: what is read and driven in each control period. */
#ifndef HAL_IO_H
#define HAL_IO_H

#include "base.h"

/* Sets the board up, motors off, and says why it booted. Called first. */
void hal_init(base_boot_t *boot);

/* Reads counters, IMU, battery and inputs. estop_pressed is true also where it was pressed only for a moment since the
 * call before: the port's interrupt has dropped the enable line by then. */
void hal_inputs_read(base_inputs_t *inputs);

/* Sets drive and enable line. A port never raises the enable line while the e-stop input is pressed. */
void hal_outputs_write(const base_outputs_t *outputs, uint8_t state);

/* The time and boot count that a crash record would carry. */
void hal_crash_context(uint64_t now_us, uint32_t boots);

#endif
