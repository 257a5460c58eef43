# The boot script of the board: which slot, its kernel and initramfs, and off. Compiled by mkimage to /boot.scr on the
# partition `boot`. It must fit U-Boot's hush shell and the commands that Debian builds into its U-Boot for QEMU.
#
# The state partition holds two copies of 4 KiB (runtime format: updater/src/boot_state.rs). Copy 1 is written first and
# believed first, so a power cut at any moment leaves one that is whole. Tries are counted only while BOOT_TRIAL names the
# slot: an ordinary boot writes nothing, and pulling the plug never burns a good slot.

setenv state_vars "BOOT_ORDER BOOT_A_LEFT BOOT_B_LEFT BOOT_SEQ BOOT_TRIAL BOOT_A_MARK BOOT_B_MARK BOOT_BLOCKED"
setenv state_addr ${pxefile_addr_r}

setenv write_state 'test -n "${BOOT_SEQ}" || setenv BOOT_SEQ 0; setexpr BOOT_SEQ ${BOOT_SEQ} + 1; env export -c -s 0x1000 ${state_addr} ${state_vars}; ${devtype} write ${state_addr} ${state_1} 8; ${devtype} write ${state_addr} ${state_2} 8'

# Returns only if the slot cannot be booted: its files are not there, or the kernel is not one. booti is what a 64-bit
# U-Boot has, bootz what a 32-bit one has.
setenv boot_slot 'part number ${devtype} ${devnum} ${boot_part} part && load ${devtype} ${devnum}:${part} ${kernel_addr_r} /vmlinuz && load ${devtype} ${devnum}:${part} ${ramdisk_addr_r} /initrd && setenv initrd ${ramdisk_addr_r}:${filesize} && setenv bootargs "console=ttyAMA0 quiet panic=5 yado.slot=${slot} ${board_args}" && run start_kernel'
setenv start_kernel 'booti ${kernel_addr_r} ${initrd} ${fdt} || bootz ${kernel_addr_r} ${initrd} ${fdt}'
if test -n "${fdt_addr}"; then setenv fdt ${fdt_addr}; else setenv fdt ${fdtcontroladdr}; fi

# What this board adds to the kernel's command line, if it has anything to add.
setenv board_args
if test -e ${devtype} ${devnum}:1 /board.env; then
  load ${devtype} ${devnum}:1 ${state_addr} /board.env && env import -t ${state_addr} ${filesize} board_args
fi

part start ${devtype} ${devnum} state state_1
setexpr state_2 ${state_1} + 8
setenv state_from
for start in ${state_1} ${state_2}; do
  if test -z "${state_from}"; then
    if ${devtype} read ${state_addr} ${start} 8 && env import -c ${state_addr} 0x1000 ${state_vars}; then
      setenv state_from ${start}
    fi
  fi
done
if test -z "${state_from}"; then
  echo "boot: no boot state, trying A, then B"
  setenv BOOT_ORDER "A B"
  setenv BOOT_A_LEFT 3
  setenv BOOT_B_LEFT 3
  setenv BOOT_TRIAL
fi

for slot_try in ${BOOT_ORDER}; do
  setenv slot ${slot_try}
  if test "${slot}" = A; then
    setenv left ${BOOT_A_LEFT}
    setenv boot_part boot-a
  else
    setenv left ${BOOT_B_LEFT}
    setenv boot_part boot-b
  fi
  if test ${left} -gt 0; then
    if test "x${BOOT_TRIAL}" = "x${slot}"; then
      setexpr left ${left} - 1
      setenv BOOT_${slot}_LEFT ${left}
      run write_state
    fi
    echo "boot: slot ${slot}, ${left} tries left, trial: ${BOOT_TRIAL}"
    run boot_slot
    echo "boot: slot ${slot} cannot be booted"
  fi
done

# Nothing in the order had a try left or could be booted. A board that gives up is of no use to anybody: begin again.
echo "boot: no slot left, refilling"
# (A loop's variable must not have the name of one that was set: hush would read that one.)
for refilled in ${BOOT_ORDER}; do
  setenv BOOT_${refilled}_LEFT 3
done
run write_state
reset
