// A JPEG decoded and resized in one go, on the calling thread.
//
// libjpeg-turbo hands over a few rows at a time and they are resized at once, so that they never
// leave the nearest cache: the decoded image as a whole does not exist, and the memory's bandwidth,
// which all cores and the machine's other guests share, is spent on the result alone.

#include <cstdint>

#if defined(__AVX2__) && __has_include(<jpeglib.h>)
#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <exception>
#include <vector>

#include <jpeglib.h>

#include "turned.h"

namespace {

using namespace saccade::bytes;

// The decoded rows of a JPEG from the top down, RGB, as whoever decodes it whole gets them: exact
// transform, smooth chroma. Whatever libjpeg-turbo has to say about the file ends it; where it jumps
// from, and where to, nothing has a destructor.
class JpegRows {
 public:
  JpegRows() {
    jpeg_.err = jpeg_std_error(&errors_.manager);
    errors_.manager.error_exit = [](j_common_ptr jpeg) { fail(jpeg); };
    errors_.manager.emit_message = [](j_common_ptr jpeg, int level) {
      if (level < 0) fail(jpeg);  // a warning; else a trace
    };
  }
  JpegRows(const JpegRows&) = delete;
  JpegRows& operator=(const JpegRows&) = delete;
  ~JpegRows() { jpeg_destroy_decompress(&jpeg_); }

  // False where it is not of this size, or not one that can be read.
  bool start(const uint8_t* data, int64_t size, int64_t height, int64_t width) {
    if (setjmp(errors_.jump) != 0) return false;
    jpeg_create_decompress(&jpeg_);
    jpeg_mem_src(&jpeg_, data, static_cast<unsigned long>(size));
    jpeg_read_header(&jpeg_, TRUE);
    if (jpeg_.image_height != height || jpeg_.image_width != width) return false;
    jpeg_.out_color_space = JCS_RGB;
    jpeg_start_decompress(&jpeg_);
    return true;
  }

  // The next kRows rows; behind the last one follows itself.
  bool read(const uint8_t* (&rows)[kRows]) {
    // libjpeg-turbo writes past the caches to rows that begin at a multiple of 32: these do not.
    constexpr int64_t kLine = 64, kOff = 16;
    const int64_t room = (int64_t{jpeg_.output_width} * kChannels + kLine - 1) / kLine * kLine;
    memory_.resize(kRows * room + 2 * kLine);
    uint8_t* first = memory_.data();
    first += -reinterpret_cast<uintptr_t>(first) % kLine + kOff;
    const int64_t left = jpeg_.output_height - jpeg_.output_scanline;
    uint8_t* places[kRows];
    for (int64_t r = 0; r < kRows; ++r) rows[r] = places[r] = first + std::min(r, left - 1) * room;
    return read(places, std::min(kRows, left));
  }

  // False where something is wrong behind the last row.
  bool finish() {
    if (setjmp(errors_.jump) != 0) return false;
    jpeg_finish_decompress(&jpeg_);
    return true;
  }

 private:
  struct Errors {
    jpeg_error_mgr manager;  // first: libjpeg-turbo knows this address
    std::jmp_buf jump;
  };

  [[noreturn]] static void fail(j_common_ptr jpeg) {
    std::longjmp(reinterpret_cast<Errors*>(jpeg->err)->jump, 1);
  }

  bool read(uint8_t** places, int64_t count) {
    if (setjmp(errors_.jump) != 0) return false;
    const JDIMENSION end = jpeg_.output_scanline + count;
    while (jpeg_.output_scanline < end) {
      const JDIMENSION left = end - jpeg_.output_scanline;
      jpeg_read_scanlines(&jpeg_, places + (count - left), left);
    }
    return true;
  }

  jpeg_decompress_struct jpeg_{};
  Errors errors_{};
  std::vector<uint8_t> memory_;
};

bool decode_resized(const uint8_t* data, int64_t size, int64_t height, int64_t width, Turn turn,
                    uint8_t* out, int64_t new_height, int64_t new_width) {
  JpegRows jpeg;
  const auto source = [&](int64_t, const uint8_t* (&rows)[kRows]) { return jpeg.read(rows); };
  return jpeg.start(data, size, height, width) &&
         resize_turned(source, height, width, turn, out, new_height, new_width) && jpeg.finish();
}

}  // namespace

// JPEG, `size` bytes, of [height, width] pixels as stored, which EXIF's `orientation` turns, to `out`,
// [new_height, new_width, 3]; false, with anything in `out`, where it is not a flawless one of that
// size or the table of the resize does not fit. Called through ctypes, as PyTorch has no tensors of memory that must not be written to.
extern "C" bool saccade_decode_resized_jpeg(const uint8_t* data, int64_t size, int64_t height,
                                            int64_t width, int64_t orientation, uint8_t* out,
                                            int64_t new_height, int64_t new_width) {
  try {
    const Turn turn(orientation);
    return decode_resized(data, size, height, width, turn, out, new_height, new_width);
  } catch (const std::exception&) {  // no memory
    return false;
  }
}

#endif
