// nvJPEG on libjpeg-turbo, for tests of the GPU lane where there is no GPU: the functions of engine/src/sys/gpu/nvjpeg.rs.
//
// What was measured of the library is kept: a batch is decoded or refused as a whole, and the hardware decoder takes a
// JPEG that ends early for a whole one whose rest is grey. It takes baseline, and of subsamplings the common ones; the
// rest goes to the hybrid decoder, as there. Encoders keep their bytes until they are fetched.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <turbojpeg.h>
#include <unistd.h>

#include "fake.h"

typedef int Status;

enum {
    SUCCESS = 0,
    NOT_INITIALIZED = 1,
    INVALID_PARAMETER = 2,
    BAD_JPEG = 3,
    NOT_SUPPORTED = 4,
    EXECUTION_FAILED = 6,
    INCOMPLETE = 10,
};

enum {
    BACKEND_DEFAULT = 0,
    BACKEND_HYBRID = 1,
    BACKEND_HARDWARE = 3,
    OUTPUT_YUV = 1,
    INPUT_RGB_PACKED = 5,
    CSS_GRAY = 6,
    CSS_UNKNOWN = -1,
    BASELINE = 0xC0,
    PROGRESSIVE = 0xC2,
};

struct Image {
    unsigned char *channel[4];
    size_t pitch[4];
};

// libjpeg-turbo's subsamplings by nvJPEG's numbers.
static const int SUBSAMPLINGS[] = {TJSAMP_444, TJSAMP_422, TJSAMP_420, TJSAMP_440, TJSAMP_411, -1, TJSAMP_GRAY};

static int subsampling_of(int css) {
    return css >= 0 && css <= CSS_GRAY ? SUBSAMPLINGS[css] : -1;
}

// libjpeg-turbo makes Huffman tables of the picture's own only where the environment says so.
__attribute__((constructor)) static void optimise() {
    setenv("TJ_OPTIMIZE", "1", 1);
}

#define IN_ORDER \
    if (fake_is_broken()) return EXECUTION_FAILED
#define IN_CONTEXT \
    IN_ORDER;      \
    if (!fake_has_context()) return NOT_INITIALIZED

// Heads (ITU-T T.81 annex B).

struct Component {
    unsigned along, down;
};

struct Head {
    unsigned width, height, count;
    int encoding;
    Component components[4];

    // Of the samples of the whole, rounded up.
    unsigned side(unsigned pixels, unsigned own, unsigned most) const {
        return (unsigned)(((uint64_t)pixels * own + most - 1) / most);
    }

    Component most() const {
        Component most = {1, 1};
        for (unsigned at = 0; at < count; at++) {
            most.along = std::max(most.along, components[at].along);
            most.down = std::max(most.down, components[at].down);
        }
        return most;
    }

    int css() const {
        if (count == 1) return CSS_GRAY;
        if (count != 3) return CSS_UNKNOWN;
        const Component &blue = components[1], &red = components[2];
        bool is_usual = blue.along == red.along && blue.down == red.down && components[0].along == most().along &&
                        components[0].down == most().down;
        if (!is_usual) return CSS_UNKNOWN;
        unsigned along = most().along / blue.along, down = most().down / blue.down;
        static const Component ALL[] = {{1, 1}, {2, 1}, {2, 2}, {1, 2}, {4, 1}};
        for (int css = 0; css < 5; css++) {
            if (ALL[css].along == along && ALL[css].down == down) return css;
        }
        return CSS_UNKNOWN;
    }

    Status parse(const unsigned char *data, size_t len) {
        *this = {};
        if (len < 4 || data[0] != 0xFF || data[1] != 0xD8) return BAD_JPEG;
        size_t at = 2;
        for (;;) {
            if (at + 4 > len) return INCOMPLETE;
            if (data[at] != 0xFF) return BAD_JPEG;
            unsigned char marker = data[at + 1];
            if (marker == 0xFF) {
                at++;
                continue;
            }
            size_t segment = (size_t)data[at + 2] << 8 | data[at + 3];
            if (segment < 2) return BAD_JPEG;
            if (marker == 0xDA) return count > 0 ? SUCCESS : BAD_JPEG;
            if (at + 2 + segment > len) return INCOMPLETE;
            bool is_frame = marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
            if (is_frame && !frame(marker, data + at + 4, segment - 2)) return BAD_JPEG;
            at += 2 + segment;
        }
    }

    bool frame(unsigned char marker, const unsigned char *body, size_t len) {
        if (len < 6 || body[5] < 1 || body[5] > 4 || len < 6 + 3 * (size_t)body[5]) return false;
        encoding = marker;
        height = body[1] << 8 | body[2];
        width = body[3] << 8 | body[4];
        count = body[5];
        for (unsigned at = 0; at < count; at++) {
            unsigned char factors = body[7 + 3 * at];
            components[at] = {(unsigned)factors >> 4, factors & 15u};
            if (components[at].along == 0 || components[at].down == 0) return false;
        }
        return width > 0 && height > 0;
    }
};

struct Stream {
    Head head;
    const unsigned char *data;
    size_t len;
};

EXPORTED Status nvjpegJpegStreamCreate(void *, Stream **stream) {
    IN_CONTEXT;
    *stream = new Stream();
    return SUCCESS;
}

EXPORTED Status nvjpegJpegStreamDestroy(Stream *stream) {
    delete stream;
    return SUCCESS;
}

EXPORTED Status nvjpegJpegStreamParseHeader(void *, const unsigned char *data, size_t len, Stream *stream) {
    IN_ORDER;
    stream->data = nullptr;
    return stream->head.parse(data, len);
}

EXPORTED Status nvjpegJpegStreamParse(void *, const unsigned char *data, size_t len, int, int, Stream *stream) {
    IN_ORDER;
    stream->data = data;
    stream->len = len;
    return stream->head.parse(data, len);
}

EXPORTED Status nvjpegJpegStreamGetJpegEncoding(Stream *stream, int *encoding) {
    *encoding = stream->head.encoding;
    return SUCCESS;
}

EXPORTED Status nvjpegJpegStreamGetComponentsNum(Stream *stream, unsigned *count) {
    *count = stream->head.count;
    return SUCCESS;
}

EXPORTED Status nvjpegJpegStreamGetFrameDimensions(Stream *stream, unsigned *width, unsigned *height) {
    *width = stream->head.width;
    *height = stream->head.height;
    return SUCCESS;
}

EXPORTED Status nvjpegJpegStreamGetComponentDimensions(
    Stream *stream, unsigned component, unsigned *width, unsigned *height) {
    const Head &head = stream->head;
    if (component >= head.count) return INVALID_PARAMETER;
    *width = head.side(head.width, head.components[component].along, head.most().along);
    *height = head.side(head.height, head.components[component].down, head.most().down);
    return SUCCESS;
}

EXPORTED Status nvjpegJpegStreamGetChromaSubsampling(Stream *stream, int *css) {
    *css = stream->head.css();
    return SUCCESS;
}

// The library.

EXPORTED Status nvjpegGetProperty(int which, int *value) {
    static const int VERSION[] = {13, 0, 0};
    if (which < 0 || which > 2) return INVALID_PARAMETER;
    *value = VERSION[which];
    return SUCCESS;
}

EXPORTED Status nvjpegCreateEx(int backend, void *, void *, unsigned, void **handle) {
    IN_CONTEXT;
    if (backend != BACKEND_DEFAULT && backend != BACKEND_HARDWARE) return NOT_SUPPORTED;
    *handle = malloc(1);
    return SUCCESS;
}

EXPORTED Status nvjpegDestroy(void *handle) {
    free(handle);
    return SUCCESS;
}

EXPORTED Status nvjpegGetHardwareDecoderInfo(void *, unsigned *engines, unsigned *cores) {
    IN_ORDER;
    *engines = 7;
    *cores = 1;
    return SUCCESS;
}

// Decoding.

// The faults that meet a decoder. Whether one did: then nothing is decoded, and nobody says so yet.
static bool meets_fault() {
    if (fake_take("hang")) {
        for (;;) pause();
    }
    if (fake_take("sticky")) fake_break();
    usleep(1000 * fake_lasting("slow", 0));
    return fake_is_broken();
}

// By way of planes that are as large as libjpeg-turbo likes them, so that not a sample more than the image has is written.
static Status decode(const unsigned char *data, size_t len, const Head &head, Image *image) {
    int subsampling = subsampling_of(head.css());
    if (subsampling < 0) return NOT_SUPPORTED;
    std::vector<unsigned char> planes[3];
    unsigned char *starts[3] = {};
    unsigned count = head.count;
    for (unsigned at = 0; at < count; at++) {
        planes[at].resize(tjPlaneSizeYUV(at, head.width, 0, head.height, subsampling));
        starts[at] = planes[at].data();
    }
    tjhandle decoder = tjInitDecompress();
    int failed = tjDecompressToYUVPlanes(decoder, data, len, starts, 0, nullptr, 0, TJFLAG_ACCURATEDCT);
    bool is_warning = failed && tjGetErrorCode(decoder) == TJERR_WARNING;
    tjDestroy(decoder);
    if (failed && !is_warning) return BAD_JPEG;
    for (unsigned at = 0; at < count; at++) {
        size_t wide = tjPlaneWidth(at, head.width, subsampling);
        unsigned width = head.side(head.width, head.components[at].along, head.most().along);
        unsigned height = head.side(head.height, head.components[at].down, head.most().down);
        for (unsigned row = 0; row < height; row++) {
            memcpy(image->channel[at] + row * image->pitch[at], starts[at] + row * wide, width);
        }
    }
    return SUCCESS;
}

struct State {
    int size;
};

EXPORTED Status nvjpegJpegStateCreate(void *, State **state) {
    IN_CONTEXT;
    *state = new State();
    return SUCCESS;
}

EXPORTED Status nvjpegJpegStateDestroy(State *state) {
    delete state;
    return SUCCESS;
}

EXPORTED Status nvjpegDecodeBatchedSupported(void *, Stream *stream, int *refused) {
    IN_ORDER;
    int css = stream->head.css();
    *refused = stream->head.encoding != BASELINE || !(css == CSS_GRAY || (css >= 0 && css <= 2));
    return SUCCESS;
}

EXPORTED Status nvjpegDecodeBatchedInitialize(void *, State *state, int size, int, int format) {
    IN_ORDER;
    if (size < 1 || format != OUTPUT_YUV) return INVALID_PARAMETER;
    state->size = size;
    return SUCCESS;
}

EXPORTED Status nvjpegDecodeBatched(
    void *, State *state, const unsigned char *const *data, const size_t *lens, Image *images, void *) {
    IN_CONTEXT;
    if (state->size < 1) return NOT_INITIALIZED;
    if (meets_fault()) return SUCCESS;
    for (int at = 0; at < state->size; at++) {
        Head head;
        Status status = head.parse(data[at], lens[at]);
        if (status == SUCCESS) status = decode(data[at], lens[at], head, images + at);
        if (status != SUCCESS) return status;
    }
    fake_log("hardware %d", state->size);
    return SUCCESS;
}

EXPORTED Status nvjpegDecoderCreate(void *, int backend, void **decoder) {
    IN_CONTEXT;
    if (backend != BACKEND_HYBRID) return NOT_SUPPORTED;
    *decoder = malloc(1);
    return SUCCESS;
}

EXPORTED Status nvjpegDecoderDestroy(void *decoder) {
    free(decoder);
    return SUCCESS;
}

EXPORTED Status nvjpegDecoderStateCreate(void *, void *, State **state) {
    return nvjpegJpegStateCreate(nullptr, state);
}

EXPORTED Status nvjpegDecoderJpegSupported(void *, Stream *stream, void *, int *refused) {
    IN_ORDER;
    int encoding = stream->head.encoding;
    *refused = (encoding != BASELINE && encoding != PROGRESSIVE) || subsampling_of(stream->head.css()) < 0;
    return SUCCESS;
}

EXPORTED Status nvjpegDecodeJpeg(void *, void *, State *, Stream *stream, Image *image, void *, void *) {
    IN_CONTEXT;
    if (!stream->data) return NOT_INITIALIZED;
    if (meets_fault()) return SUCCESS;
    Status status = decode(stream->data, stream->len, stream->head, image);
    if (status == SUCCESS) fake_log("hybrid 1");
    return status;
}

// What belongs to a decoder and is only made, attached and destroyed here.

static Status make(void **thing) {
    IN_CONTEXT;
    *thing = malloc(1);
    return SUCCESS;
}

static Status destroy(void *thing) {
    free(thing);
    return SUCCESS;
}

EXPORTED Status nvjpegBufferPinnedCreate(void *, void *, void **buffer) {
    return make(buffer);
}

EXPORTED Status nvjpegBufferPinnedDestroy(void *buffer) {
    return destroy(buffer);
}

EXPORTED Status nvjpegBufferDeviceCreate(void *, void *, void **buffer) {
    return make(buffer);
}

EXPORTED Status nvjpegBufferDeviceDestroy(void *buffer) {
    return destroy(buffer);
}

EXPORTED Status nvjpegStateAttachPinnedBuffer(State *state, void *buffer) {
    return state && buffer ? SUCCESS : INVALID_PARAMETER;
}

EXPORTED Status nvjpegStateAttachDeviceBuffer(State *state, void *buffer) {
    return state && buffer ? SUCCESS : INVALID_PARAMETER;
}

EXPORTED Status nvjpegDecodeParamsCreate(void *, void **params) {
    return make(params);
}

EXPORTED Status nvjpegDecodeParamsDestroy(void *params) {
    return destroy(params);
}

EXPORTED Status nvjpegDecodeParamsSetOutputFormat(void *, int format) {
    return format == OUTPUT_YUV ? SUCCESS : INVALID_PARAMETER;
}

// Encoding.

struct Encoder {
    std::vector<unsigned char> bytes;
};

struct Params {
    int quality, css;
};

EXPORTED Status nvjpegEncoderStateCreate(void *, Encoder **encoder, void *) {
    IN_CONTEXT;
    *encoder = new Encoder();
    return SUCCESS;
}

EXPORTED Status nvjpegEncoderStateDestroy(Encoder *encoder) {
    delete encoder;
    return SUCCESS;
}

EXPORTED Status nvjpegEncoderParamsCreate(void *, Params **params, void *) {
    IN_CONTEXT;
    *params = new Params{70, 0};
    return SUCCESS;
}

EXPORTED Status nvjpegEncoderParamsDestroy(Params *params) {
    delete params;
    return SUCCESS;
}

EXPORTED Status nvjpegEncoderParamsSetQuality(Params *params, int quality, void *) {
    if (quality < 1 || quality > 100) return INVALID_PARAMETER;
    params->quality = quality;
    return SUCCESS;
}

EXPORTED Status nvjpegEncoderParamsSetOptimizedHuffman(Params *, int, void *) {
    return SUCCESS;
}

EXPORTED Status nvjpegEncoderParamsSetSamplingFactors(Params *params, int css, void *) {
    if (subsampling_of(css) < 0) return INVALID_PARAMETER;
    params->css = css;
    return SUCCESS;
}

// Keeps what was encoded, and ends the encoder.
static Status keep(Encoder *encoder, tjhandle jpeg, int failed, unsigned char *bytes, unsigned long len) {
    if (!failed) encoder->bytes.assign(bytes, bytes + len);
    tjFree(bytes);
    tjDestroy(jpeg);
    return failed ? EXECUTION_FAILED : SUCCESS;
}

EXPORTED Status nvjpegEncodeYUV(
    void *, Encoder *encoder, Params *params, const Image *image, int css, int width, int height, void *) {
    IN_CONTEXT;
    int subsampling = subsampling_of(css);
    if (subsampling < 0 || css != params->css) return INVALID_PARAMETER;
    std::vector<unsigned char> planes[3];
    const unsigned char *starts[3] = {};
    for (int at = 0; at < (css == CSS_GRAY ? 1 : 3); at++) {
        // As large as libjpeg-turbo likes them: the last column and row of an odd side stand twice.
        int wide = tjPlaneWidth(at, width, subsampling), high = tjPlaneHeight(at, height, subsampling);
        int own_width = at == 0 ? width : wide, own_height = at == 0 ? height : high;
        planes[at].resize((size_t)wide * high);
        for (int y = 0; y < high; y++) {
            const unsigned char *from = image->channel[at] + std::min(y, own_height - 1) * image->pitch[at];
            for (int x = 0; x < wide; x++) planes[at][(size_t)y * wide + x] = from[std::min(x, own_width - 1)];
        }
        starts[at] = planes[at].data();
    }
    unsigned char *bytes = nullptr;
    unsigned long len = 0;
    tjhandle jpeg = tjInitCompress();
    int failed = tjCompressFromYUVPlanes(
        jpeg, starts, width, nullptr, height, subsampling, &bytes, &len, params->quality, TJFLAG_ACCURATEDCT);
    return keep(encoder, jpeg, failed, bytes, len);
}

EXPORTED Status nvjpegEncodeImage(
    void *, Encoder *encoder, Params *params, const Image *image, int format, int width, int height, void *) {
    IN_CONTEXT;
    if (format != INPUT_RGB_PACKED) return NOT_SUPPORTED;
    unsigned char *bytes = nullptr;
    unsigned long len = 0;
    tjhandle jpeg = tjInitCompress();
    int failed = tjCompress2(
        jpeg, image->channel[0], width, (int)image->pitch[0], height, TJPF_RGB, &bytes, &len,
        subsampling_of(params->css), params->quality, TJFLAG_ACCURATEDCT);
    return keep(encoder, jpeg, failed, bytes, len);
}

EXPORTED Status nvjpegEncodeRetrieveBitstream(void *, Encoder *encoder, unsigned char *to, size_t *len, void *) {
    IN_ORDER;
    if (to && *len < encoder->bytes.size()) return INVALID_PARAMETER;
    if (to) memcpy(to, encoder->bytes.data(), encoder->bytes.size());
    *len = encoder->bytes.size();
    return SUCCESS;
}
