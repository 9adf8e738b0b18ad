/* The STM32F405's registers that are used (reference manual RM0090), and the pins; docs/firmware.md has the wiring. */
#ifndef F405_H
#define F405_H

#include "cortexm.h"

#define RCC(offset) REG(0x40023800u + (offset))
#define GPIO(port, offset) REG(0x40020000u + (0x400u * (port)) + (offset)) /* port 0: A, 1: B, 2: C */
#define TIM1(offset) REG(0x40010000u + (offset))
#define TIM3(offset) REG(0x40000400u + (offset))
#define TIM4(offset) REG(0x40000800u + (offset))
#define TIM5(offset) REG(0x40000C00u + (offset))
#define USART1(offset) REG(0x40011000u + (offset))
#define I2C1(offset) REG(0x40005400u + (offset))
#define ADC1(offset) REG(0x40012000u + (offset))
#define ADC_CCR REG(0x40012304u)
#define EXTI(offset) REG(0x40013C00u + (offset))
#define SYSCFG(offset) REG(0x40013800u + (offset))
#define IWDG(offset) REG(0x40003000u + (offset))
#define FLASH(offset) REG(0x40023C00u + (offset))

#define CORE_HZ 168000000u
#define WAIT_MAX 200000u /* rounds of any wait for the hardware */

/* Port B: direction of left and right, enable line, e-stop (normally closed to ground: open or broken is pressed) */
#define PIN_LEFT_DIR 12u
#define PIN_RIGHT_DIR 13u
#define PIN_ENABLE 14u
#define PIN_ESTOP 15u

/* Mode 0 input, 1 output, 2 alternate function, 3 analogue; pull 0 none, 1 up. */
void pin_mode(uint32_t port, uint32_t pin, uint32_t mode, uint32_t function, uint32_t pull);

/* True when (reg & mask) == wanted, within a bounded number of rounds. */
bool wait_for(volatile uint32_t *reg, uint32_t mask, uint32_t wanted);

/* MPU-6050 on I2C1. False where it does not answer. */
bool imu_init(void);
bool imu_read(base_inputs_t *inputs);

#endif
