package chaos

import (
	"flag"
	"time"
)

// The seed determines the steps. Their timing also depends on the machine.
var (
	seedFlag     = flag.Uint64("chaos.seed", 0, "seed of the random steps; 0 means fixed seeds in fake time and a random one for the program")
	durationFlag = flag.Duration("chaos.duration", 30*time.Second, "how long random steps are applied to the program")
)
