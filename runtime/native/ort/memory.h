// Floats, aligned for the widest vectors. Throws std::bad_alloc if there is not enough memory.
#pragma once

#include <atomic>
#include <cstddef>
#include <new>
#include <utility>

namespace edgefc {

class Floats {
 public:
  Floats() = default;
  explicit Floats(std::size_t count)
      : count_(count), data_(static_cast<float*>(::operator new(count * sizeof(float), kAlign))) {}
  Floats(Floats&& other) noexcept { swap(other); }
  Floats& operator=(Floats&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Floats() {
    if (data_ != nullptr) ::operator delete(data_, kAlign);
  }

  std::size_t count() const { return count_; }
  float* data() const { return data_; }

 private:
  static constexpr std::align_val_t kAlign{64};

  void swap(Floats& other) noexcept {
    std::swap(count_, other.count_);
    std::swap(data_, other.data_);
  }

  std::size_t count_ = 0;
  float* data_ = nullptr;
};

// Floats that are kept from run to run. Concurrent runs have separate ones.
class Scratch {
 public:
  class Loan {
   public:
    Loan(Scratch& home, std::size_t count) : home_(home), floats_(home.kept_.exchange(nullptr)) {
      if (floats_ != nullptr && floats_->count() >= count) return;
      delete floats_;
      floats_ = nullptr;
      floats_ = new Floats(count);
    }
    ~Loan() { delete home_.kept_.exchange(floats_); }
    Loan(const Loan&) = delete;
    Loan& operator=(const Loan&) = delete;
    float* data() const { return floats_->data(); }

   private:
    Scratch& home_;
    Floats* floats_;
  };
  Scratch() = default;
  ~Scratch() { delete kept_.load(); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

 private:
  std::atomic<Floats*> kept_{nullptr};
};

}  // namespace edgefc
