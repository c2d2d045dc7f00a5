// The text of PTX: declarations, labels and instructions into what ptx.cpp runs.
#include <algorithm>
#include <cctype>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "ptx.hpp"

namespace ptx {
namespace {

using std::string;

// Of mma.
constexpr size_t MOST_OPERANDS = 14;
// Of a thread, by the compute capabilities of CUDA.
constexpr size_t MOST_LOCAL = 512 << 10;

const char* const SPECIAL_NAMES[] = {"%tid.x", "%ctaid.x", "%ntid.x", "%nctaid.x", "%laneid"};

class Reader {
public:
    explicit Reader(const string& text) : text(text) {}

    std::unique_ptr<Program> read() {
        program = std::make_unique<Program>();
        for (string statement; next(statement);) top(statement);
        for (auto& [name, kernel] : program->kernels) kernel.shared = &program->shared;
        return std::move(program);
    }

private:
    const string& text;
    size_t at = 0;
    int line = 1, began = 1;
    std::unique_ptr<Program> program;
    std::unordered_map<string, unsigned> shared;  // addresses

    [[noreturn]] void malformed(const string& what) const {
        throw Malformed("line " + std::to_string(began) + " of the PTX: " + what);
    }

    char take() {
        if (at >= text.size()) return 0;
        if (text[at] == '\n') line++;
        return text[at++];
    }

    void skip() {
        while (at < text.size()) {
            if (std::isspace(static_cast<unsigned char>(text[at]))) take();
            else if (text.compare(at, 2, "//") == 0) while (at < text.size() && text[at] != '\n') at++;
            else break;
        }
    }

    // Up to a semicolon, the end of the line of a directive without one, a label, a brace that opens or closes a body.
    bool next(string& statement) {
        skip();
        statement.clear();
        began = line;
        if (at >= text.size()) return false;
        if (text[at] == '{' || text[at] == '}') return statement = take(), true;
        int open = 0;
        while (at < text.size()) {
            if (text.compare(at, 2, "//") == 0) { skip(); continue; }
            const char c = take();
            if (c == ';') break;
            if (c == '\n' && ends_with_line(statement)) break;
            if (c == ':' && statement[0] == '$') return statement += c, true;
            if (c == '{' || c == '(') open++;
            if (c == '}' || c == ')') open--;
            statement += std::isspace(static_cast<unsigned char>(c)) ? ' ' : c;
            if (c == ')' && open == 0 && statement.find(".entry") != string::npos) break;
        }
        while (!statement.empty() && statement.back() == ' ') statement.pop_back();
        return true;
    }

    static bool begins(const string& statement, const char* with) { return statement.compare(0, std::strlen(with), with) == 0; }
    static bool ends_with_line(const string& statement) {
        for (const char* directive : {".version", ".target", ".address_size", ".maxntid", ".minnctapersm", ".reqntid"})
            if (begins(statement, directive)) return true;
        return false;
    }

    // Words, with commas, brackets, braces and bars between them.
    static std::vector<string> words(const string& statement) {
        std::vector<string> found;
        string word;
        const auto end = [&] { if (!word.empty()) found.push_back(word), word.clear(); };
        for (char c : statement) {
            if (std::isspace(static_cast<unsigned char>(c)) || std::strchr(",{}()|;", c)) end();
            else if (c == '[' || c == ']') end(), found.push_back(string(1, c));
            else word += c;
        }
        end();
        return found;
    }

    unsigned long number(const string& word) const {
        char* rest;
        const unsigned long value = std::strtoul(word.c_str(), &rest, 10);
        if (word.empty() || *rest) malformed("no number: " + word);
        return value;
    }

    // name[bytes] of a .shared or .local; 0 where the launch says.
    Array array(const std::vector<string>& found) const {
        size_t element = 0, align = 0;
        for (size_t i = 0; i < found.size(); i++) {
            const string& word = found[i];
            if (word == ".align") align = number(found.at(++i));
            else if (word == ".b8" || word == ".u8") element = 1;
            else if (word == ".u32" || word == ".b32" || word == ".f32" || word == ".s32") element = 4;
            else if (word == ".u64" || word == ".b64" || word == ".f64" || word == ".s64") element = 8;
            else if (word[0] != '.' && element) {
                align = std::max(align, element);
                if (i + 1 >= found.size()) return {word, element, align};
                return {word, found.at(i + 2) == "]" ? 0 : element * number(found[i + 2]), align};
            }
        }
        malformed("no array");
    }

    void declare_shared(const string& statement) {
        program->shared.push_back(array(words(statement)));
        shared[program->shared.back().name] = shared_address(program->shared, program->shared.size() - 1);
        if (program->shared.back().bytes >= SHARED_STRIDE) malformed("a shared array that no device has");
    }

    void top(const string& statement) {
        if (begins(statement, ".version") || begins(statement, ".target") || begins(statement, ".address_size")) return;
        if (begins(statement, ".global")) return;
        if (begins(statement, ".shared") || begins(statement, ".extern .shared")) return declare_shared(statement);
        if (begins(statement, ".visible .entry")) return entry(statement);
        malformed("not expected: " + statement);
    }

    struct Body {
        Kernel kernel;
        std::unordered_map<string, int> names;                         // registers and parameters
        std::unordered_map<string, size_t> labels{}, locals{};
        std::vector<std::pair<size_t, string>> branches{};
        std::unordered_map<uint64_t, int> numbers{};
        int scope = 0;
    };

    void entry(const string& statement) {
        Body body{};
        const std::vector<string> head = words(statement);
        if (head.size() < 3) malformed("a kernel without a name");
        body.kernel.name = head[2];
        for (size_t i = 3; i < head.size(); i++) {
            if (head[i] == ".u64" || head[i] == ".b64" || head[i] == ".f64") body.kernel.parameters.push_back(8);
            else if (head[i] == ".u32" || head[i] == ".b32" || head[i] == ".f32") body.kernel.parameters.push_back(4);
            else if (head[i][0] != '.') body.names["param " + head[i]] = int(body.kernel.parameters.size()) - 1;
        }
        body.kernel.registers.assign(SPECIALS, 0);
        body.kernel.known.assign(SPECIALS, 1);
        body.kernel.known[SINK] = 0;
        for (int special = TID; special <= LANEID; special++) body.names[SPECIAL_NAMES[special]] = special;
        body.names["_"] = SINK;
        for (string inner; next(inner);) {
            if (inner == "{") body.scope++;
            else if (inner == "}") {
                if (--body.scope == 0) return finish(body);
            } else within(body, inner);
        }
        malformed(body.kernel.name + " has no end");
    }

    void finish(Body& body) {
        for (const auto& [instruction, label] : body.branches) {
            if (!body.labels.count(label)) malformed("no label " + label);
            body.kernel.instructions[instruction].target = body.labels[label];
        }
        Instruction last;
        last.action = action_of("ret");
        body.kernel.instructions.push_back(last);
        program->kernels[body.kernel.name] = std::move(body.kernel);
    }

    void within(Body& body, const string& statement) {
        if (statement.empty()) return;
        if (statement.back() == ':') {
            body.labels[statement.substr(0, statement.size() - 1)] = body.kernel.instructions.size();
        } else if (begins(statement, ".maxntid") || begins(statement, ".reqntid")) {
            body.kernel.most_threads = number(words(statement)[1]);
        } else if (begins(statement, ".minnctapersm") || begins(statement, ".pragma")) {
        } else if (begins(statement, ".reg")) {
            registers(body, words(statement));
        } else if (begins(statement, ".local")) {
            const Array found = array(words(statement));
            if (found.bytes > MOST_LOCAL) malformed("a local array that no device has");
            std::vector<char>& local = body.kernel.local_known;
            local.resize((local.size() + 16) / 16 * 16 + beyond_alignment(found), NOWHERE);
            body.locals[found.name] = local.size();
            local.resize(local.size() + found.bytes, 0);
        } else if (begins(statement, ".shared")) {
            declare_shared(statement);
            body.kernel.shared_bytes += program->shared.back().bytes;
        } else if (statement[0] == '.') {
            malformed("not expected: " + statement);
        } else {
            instruction(body, statement);
        }
    }

    // `.reg .f32 %f<125>` or `.reg .b32 %temp`: a name of an inner scope hides none that is in use outside.
    void registers(Body& body, const std::vector<string>& found) {
        for (size_t i = 2; i < found.size(); i++) {
            const size_t angle = found[i].find('<');
            const bool many = angle != string::npos;
            const unsigned long count = many ? number(found[i].substr(angle + 1, found[i].size() - angle - 2)) : 1;
            for (unsigned long n = 0; n < count; n++) {
                body.names[many ? found[i].substr(0, angle) + std::to_string(n) : found[i]] = int(body.kernel.registers.size());
                body.kernel.registers.push_back(0xdeadbeefdeadbeef);
                body.kernel.known.push_back(0);
            }
        }
    }

    int constant(Body& body, uint64_t value) {
        auto [found, made] = body.numbers.try_emplace(value, int(body.kernel.registers.size()));
        if (made) body.kernel.registers.push_back(value), body.kernel.known.push_back(1);
        return found->second;
    }

    // A register, a number, or the address of an array.
    int operand(Body& body, const string& word) {
        if (auto name = body.names.find(word); name != body.names.end()) return name->second;
        if (auto name = body.locals.find(word); name != body.locals.end()) return constant(body, name->second);
        if (auto name = shared.find(word); name != shared.end()) return constant(body, name->second);
        const bool single = begins(word, "0f") || begins(word, "0F"), twice = begins(word, "0d") || begins(word, "0D");
        const string digits = single || twice ? word.substr(2) : word;
        char* rest;
        const bool negative = digits[0] == '-';
        const uint64_t value = std::strtoull(digits.c_str() + negative, &rest, single || twice ? 16 : 0);
        if (*rest == 'U') rest++;
        if (digits.empty() || *rest) malformed("neither a register nor a number: " + word);
        return constant(body, negative ? 0 - value : value);
    }

    void instruction(Body& body, const string& statement) {
        std::vector<string> found = words(statement);
        Instruction made;
        made.line = began;
        size_t i = 0;
        if (found[0][0] == '@') {
            made.unless = found[0][1] == '!';
            made.guard = operand(body, found[0].substr(made.unless ? 2 : 1));
            i++;
        }
        string name = found[i++];
        if (name == "mov.b64" && found.size() - i == 3) name = statement.find('{') < statement.find(',') ? "unpack" : "pack";
        made.action = action_of(name);
        if (!made.action) malformed("instruction " + name + " is not known");
        if (begins(name, "setp") && statement.find('|') != string::npos) malformed("a second predicate is not known: " + statement);
        if (name == "bar.sync" && (found.size() != i + 1 || found[i] != "0")) malformed("a barrier other than 0: " + statement);
        if (name == "bra" || name == "bra.uni") {
            if (found.size() != i + 1) malformed("no label: " + statement);
            body.branches.emplace_back(body.kernel.instructions.size(), found[i]);
            i = found.size();
        }
        // shfl: where nobody asks whether the lane was inside
        const bool shuffles = begins(name, "shfl");
        for (; i < found.size(); i++) {
            if (shuffles && made.at.size() == 1 && statement.find('|') == string::npos) made.at.push_back(SINK);
            if (found[i] != "[") { made.at.push_back(operand(body, found[i])); continue; }
            const string inside = found[i + 1];
            const size_t plus = inside.find('+');
            if (begins(name, "ld.param")) {
                const auto parameter = body.names.find("param " + inside);
                if (parameter == body.names.end()) malformed("no parameter " + inside);
                made.offset = parameter->second;
            } else {
                made.at.push_back(operand(body, inside.substr(0, plus)));
                if (plus != string::npos) made.offset = std::strtoll(inside.c_str() + plus + 1, nullptr, 10);
            }
            i += 2;
        }
        made.at.resize(std::max(made.at.size(), MOST_OPERANDS), SINK);
        body.kernel.instructions.push_back(std::move(made));
    }
};

}  // namespace

std::unique_ptr<Program> read(const string& text) { return Reader(text).read(); }

}  // namespace ptx
