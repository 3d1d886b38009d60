package chaos

import (
	"flag"
	"time"
)

// What happens is determined by a seed, when it happens by the machine too.
var (
	seedFlag     = flag.Uint64("chaos.seed", 0, "seed of the random steps; 0 means fixed ones in fake time and another one each time for the program")
	durationFlag = flag.Duration("chaos.duration", 30*time.Second, "how long the program is harmed")
)
