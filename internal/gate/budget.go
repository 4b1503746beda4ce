package gate

import "sync"

const (
	// retryShare is how many attempts may be made again for each that was made
	// first: a dead C1 gets a tenth more, and not three times as many.
	retryShare = 0.1
	// maxRetries may be made again at once.
	maxRetries = 10
)

// A budget is a bucket that first attempts fill and further ones empty.
type budget struct {
	mu     sync.Mutex // guards what follows
	tokens float64
	spent  uint64
}

func (b *budget) earn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = min(b.tokens+retryShare, maxRetries)
}

func (b *budget) spend() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	b.spent++
	return true
}

func (b *budget) count() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.spent
}
