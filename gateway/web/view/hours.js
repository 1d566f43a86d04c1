// Quiet hours. The server keeps minutes of the day in UTC; a clock on a wall shows them where the user is.

const DAY = 1_440;

/** `offset` as of Date: minutes from here to UTC. */
export const utcMinute = (time, offset = new Date().getTimezoneOffset()) => {
  const [hours, minutes] = time.split(':').map(Number);
  return (hours * 60 + minutes + offset + DAY) % DAY;
};

export const timeHere = (minute, offset = new Date().getTimezoneOffset()) => {
  const here = (minute - offset + DAY) % DAY;
  return `${String(Math.floor(here / 60)).padStart(2, '0')}:${String(here % 60).padStart(2, '0')}`;
};
