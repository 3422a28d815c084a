using System.Buffers;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using Microsoft.Extensions.AI;
using Sessions.Api.Domain;
using Sessions.Api.Engine.Agents.Tools;

namespace Sessions.Api.Engine.Agents;

/// <summary>A piece of a call's arguments, as it came.</summary>
/// <param name="index">Which of the calls of this answer.</param>
/// <param name="callId">Its id: with the first piece.</param>
/// <param name="name">The function: with the first piece.</param>
/// <param name="arguments">More of the arguments.</param>
internal sealed class CallPieceContent(int index, string? callId, string? name, string arguments) : AIContent
{
    public int Index { get; } = index;

    public string? CallId { get; } = callId;

    public string? Name { get; } = name;

    public string Arguments { get; } = arguments;
}

/// <summary>
/// Makes output items of what a model says, piece by piece, and tells of them as they come: one item after another, and what is kept in
/// the end is what was told. Pieces belong together by their kind
/// and order, whatever ids they carry. Bounded in bytes. One that was ended says nothing more, whoever goes on adding to it.
/// </summary>
/// <param name="observer">Who is told, if anybody is.</param>
/// <param name="maxBytes">How many bytes of text and arguments an answer may have.</param>
internal sealed class OutputBuilder(ITurnObserver? observer, int maxBytes)
{
    /// <summary>What Microsoft.Extensions.AI calls an error that is a refusal.</summary>
    public const string Refusal = "Refusal";

    private static readonly JsonWriterOptions Raw = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, SkipValidation = true };

    private readonly Lock _lock = new();

    // What was told of it goes on lying here: with a piece of its own for each token, the memory of a stream would be mostly objects.
    private ArrayBufferWriter<byte> _text = new();
    private ArrayBufferWriter<byte>? _items;

    // The parts of a message that are whole: a model may say a text and then refuse to go on.
    private List<(bool IsRefusal, ReadOnlyMemory<byte> Text)>? _parts;
    private Kind _kind;
    private bool _isRefusal;
    private int _index;
    private int _bytes;
    private char _halfPair;
    private int _callIndex;
    private string _callId = "";
    private string _callName = "";
    private string _server = "";
    private string? _seal;
    private bool _ended;
    private Items _output;

    private enum Kind
    {
        None,
        Message,
        Reasoning,
        Call,
        Tool,
    }

    /// <summary>Whether nothing was said, and nothing called: white space and thoughts are no answer.</summary>
    public bool IsBlank { get; private set; } = true;

    /// <summary>Adds what came.</summary>
    /// <exception cref="AgentException">It is too much, or nothing that can be kept.</exception>
    public void Add(AIContent content)
    {
        lock (_lock)
        {
            if (_ended)
            {
                return;
            }

            switch (content)
            {
                case TextContent { Text.Length: > 0 } text:
                    AddText(text.Text, isRefusal: false);
                    break;
                case TextReasoningContent { Text.Length: > 0 } or TextReasoningContent { ProtectedData.Length: > 0 }:
                    AddReasoning((TextReasoningContent)content);
                    break;
                case ErrorContent { ErrorCode: Refusal, Message.Length: > 0 } refusal:
                    AddText(refusal.Message, isRefusal: true);
                    break;
                case ErrorContent { ErrorCode: not Refusal }:
                    throw AgentFailure.Unreadable(null);
                case CallPieceContent piece:
                    AddCallPiece(piece);
                    break;
                case FunctionCallContent { RawRepresentation: not CallArguments { IsTold: true } } call:
                    BeginCall(call.CallId, call.Name);
                    AppendArguments(call.RawRepresentation is CallArguments arguments ? arguments.Text : CallJson.Write(call.Arguments));
                    EndItem();
                    break;
                case DataContent or UriContent or HostedFileContent:
                    throw new AgentException(
                        AgentFailure.Failed("The agent answered with content that can't be kept here: only text and calls can."));
            }
        }
    }

    /// <summary>A tool of the server's own is going to run.</summary>
    /// <param name="server">Its server.</param>
    /// <param name="name">Its name.</param>
    /// <param name="arguments">Its arguments, as the model wrote them.</param>
    public void BeginTool(string server, string name, string arguments)
    {
        lock (_lock)
        {
            if (_ended)
            {
                return;
            }

            EndItem();
            (_kind, _server, _callName) = (Kind.Tool, server, name);
            Count(server.Length + name.Length);
            TellAdded("mcp_call", json => WriteTool(json, default, "in_progress", null));
            observer?.On(new ToolStarted(_index));
            AppendArguments(string.IsNullOrWhiteSpace(arguments) ? "{}" : arguments);
        }
    }

    /// <summary>Passes on what has been told so far: it may be a while until there is more.</summary>
    public void Flush() => observer?.Flush();

    /// <summary>The tool that runs has ended.</summary>
    /// <returns>What is kept of its result: where there is no room for it, that is its failure.</returns>
    public ToolResult EndTool(ToolResult result)
    {
        lock (_lock)
        {
            var bytes = Encoding.UTF8.GetByteCount(result.Text);
            if (bytes > maxBytes - _bytes)
            {
                result = new ToolResult(
                    $"The tool's result does not fit into the {maxBytes} bytes that limits.response_bytes allows an answer.", Failed: true);
                bytes = 0;
            }

            if (!_ended)
            {
                Count(bytes);
                EndTool(result, result.Failed ? "failed" : "completed");
            }

            return result;
        }
    }

    /// <summary>Ends the answer: nothing more is added or told.</summary>
    /// <param name="isStopped">Whether it was stopped: a call whose arguments are not whole is then left out, as nobody could answer
    /// it.</param>
    /// <returns>The items; <see cref="Items.None"/> where nothing was said.</returns>
    public Items End(bool isStopped = false)
    {
        lock (_lock)
        {
            if (_ended)
            {
                return _output;
            }

            if (_kind == Kind.Call && isStopped)
            {
                _kind = Kind.None;
            }

            if (_kind == Kind.Tool)
            {
                // It may have done what it does.
                EndTool(new ToolResult("The turn was stopped while the tool was running.", Failed: true), "incomplete");
            }

            if (_kind == Kind.Message && _index == 0 && _parts is null && !_isRefusal)
            {
                // What most answers are: one text, which needs no JSON around it.
                FlushHalfPair();
                _output = Items.OfText(new Utf8Text(_text.FreeCapacity == 0 ? _text.WrittenMemory : _text.WrittenSpan.ToArray()));
                if (observer is not null)
                {
                    observer.On(new ItemDone(_index, "message", MessageItem.Write("assistant", new Utf8Text(_output.Bytes))));
                }
            }
            else
            {
                EndItem();
                if (_items is not null)
                {
                    _items.Write("]"u8);
                    _output = Items.OfJson(_items.WrittenSpan.ToArray());
                }
            }

            _ended = true;
            return _output;
        }
    }

    /// <summary>From here on nothing is told: the turn has failed.</summary>
    public void Abandon()
    {
        lock (_lock)
        {
            _ended = true;
        }
    }

    private void AddText(string text, bool isRefusal)
    {
        Begin(Kind.Message);
        if (isRefusal != _isRefusal)
        {
            EndPart();
            _isRefusal = isRefusal;
        }

        Append(text);
    }

    // Where thoughts are sealed, the seal ends them.
    private void AddReasoning(TextReasoningContent reasoning)
    {
        if (_kind == Kind.Reasoning && _seal is not null)
        {
            EndItem();
        }

        Begin(Kind.Reasoning);
        if (reasoning.Text.Length > 0)
        {
            Append(reasoning.Text);
        }

        if (reasoning.ProtectedData is { Length: > 0 } seal)
        {
            Count(seal.Length);
            _seal = seal;
        }
    }

    private void AddCallPiece(CallPieceContent piece)
    {
        if (_kind != Kind.Call || _callIndex != piece.Index)
        {
            // More of a call that was told to be whole can't be put where it belongs any more.
            BeginCall(piece.CallId ?? throw AgentFailure.Unreadable(null), piece.Name ?? throw AgentFailure.Unreadable(null));
            _callIndex = piece.Index;
        }

        AppendArguments(piece.Arguments);
    }

    private void BeginCall(string callId, string name)
    {
        EndItem();
        (_kind, _callIndex, _callId, _callName) = (Kind.Call, -1, callId, name);
        IsBlank = false;
        Count(callId.Length + name.Length);
        TellAdded("function_call", json => WriteCall(json, default, "in_progress"));
    }

    private void Begin(Kind kind)
    {
        if (_kind == kind)
        {
            return;
        }

        EndItem();
        _kind = kind;
        if (kind == Kind.Message)
        {
            TellAdded("message", json => WriteMessage(json, isBegun: true));
        }
        else
        {
            TellAdded("reasoning", json => WriteReasoning(json, isBegun: true));
        }
    }

    private void EndItem()
    {
        switch (_kind)
        {
            case Kind.Message:
                FlushHalfPair();
                Keep("message", json => WriteMessage(json));
                break;
            case Kind.Reasoning:
                FlushHalfPair();
                Keep("reasoning", json => WriteReasoning(json));
                break;
            case Kind.Call:
                Keep("function_call", json => WriteCall(json, _text.WrittenSpan, "completed"));
                break;
            default:
                return;
        }

        (_kind, _isRefusal, _parts, _seal) = (Kind.None, false, null, null);
        _text = new();
        _index++;
    }

    private void EndTool(ToolResult result, string status)
    {
        observer?.On(new ToolEnded(_index, result.Failed));
        Keep("mcp_call", json => WriteTool(json, _text.WrittenSpan, status, result));
        _kind = Kind.None;
        _text = new();
        _index++;
    }

    private void EndPart()
    {
        FlushHalfPair();
        if (_text.WrittenCount > 0)
        {
            (_parts ??= []).Add((_isRefusal, _text.WrittenMemory));
            _text = new();
        }
    }

    // Whole characters only: half a surrogate pair waits for its other half.
    private void Append(string text)
    {
        var whole = _halfPair == default ? text : _halfPair + text;
        _halfPair = char.IsHighSurrogate(whole[^1]) ? whole[^1] : default;
        AppendWhole(_halfPair == default ? whole : whole.AsSpan(0, whole.Length - 1));
    }

    private void FlushHalfPair()
    {
        if (_halfPair != default)
        {
            _halfPair = default;
            AppendWhole("\uFFFD");
        }
    }

    private void AppendWhole(ReadOnlySpan<char> text)
    {
        var before = _text.WrittenCount;
        if (observer is null && _text.Capacity == 0)
        {
            // All of it, most likely: then it is kept as it lies here.
            _text = new ArrayBufferWriter<byte>(Math.Max(1, Encoding.UTF8.GetByteCount(text)));
        }

        Count(Encoding.UTF8.GetBytes(text, _text));
        IsBlank = IsBlank && (_kind != Kind.Message || text.IsWhiteSpace());
        if (observer is not null && _kind == Kind.Message && _text.WrittenCount > before)
        {
            observer.On(new TextDelta(_index, _parts?.Count ?? 0, new Utf8Text(_text.WrittenMemory[before..])) { IsRefusal = _isRefusal });
        }
    }

    private void AppendArguments(string arguments)
    {
        var before = _text.WrittenCount;
        Count(Encoding.UTF8.GetBytes(arguments, _text));
        if (observer is not null && _text.WrittenCount > before)
        {
            observer.On(new ArgumentsDelta(_index, new Utf8Text(_text.WrittenMemory[before..])));
        }
    }

    private void Count(long bytes)
    {
        _bytes += (int)bytes;
        if (_bytes > maxBytes)
        {
            throw AgentFailure.TooLong(maxBytes);
        }
    }

    private void TellAdded(string type, Action<Utf8JsonWriter> write)
    {
        if (observer is not null)
        {
            observer.On(new ItemAdded(_index, type, Write(write)));
        }
    }

    private void Keep(string type, Action<Utf8JsonWriter> write)
    {
        var item = Write(write);
        _items ??= new ArrayBufferWriter<byte>();
        _items.Write(_items.WrittenCount == 0 ? "["u8 : ","u8);
        _items.Write(item);
        observer?.On(new ItemDone(_index, type, item));
    }

    private void WriteMessage(Utf8JsonWriter json, bool isBegun = false)
    {
        json.WriteStartObject();
        json.WriteString("type"u8, "message"u8);
        json.WriteString("role"u8, "assistant"u8);
        json.WriteString("status"u8, isBegun ? "in_progress"u8 : "completed"u8);
        json.WriteStartArray("content"u8);
        if (!isBegun)
        {
            foreach (var (isRefusal, text) in _parts ?? [])
            {
                WritePart(json, isRefusal, text.Span);
            }

            if (_text.WrittenCount > 0)
            {
                WritePart(json, _isRefusal, _text.WrittenSpan);
            }
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }

    private static void WritePart(Utf8JsonWriter json, bool isRefusal, ReadOnlySpan<byte> text)
    {
        json.WriteStartObject();
        json.WriteString("type"u8, isRefusal ? "refusal"u8 : "output_text"u8);
        json.WriteString(isRefusal ? "refusal"u8 : "text"u8, text);
        if (!isRefusal)
        {
            json.WriteStartArray("annotations"u8);
            json.WriteEndArray();
            json.WriteStartArray("logprobs"u8);
            json.WriteEndArray();
        }

        json.WriteEndObject();
    }

    private void WriteReasoning(Utf8JsonWriter json, bool isBegun = false)
    {
        json.WriteStartObject();
        json.WriteString("type"u8, "reasoning"u8);
        json.WriteStartArray("summary"u8);
        if (!isBegun && _seal is not null && _text.WrittenCount > 0)
        {
            json.WriteStartObject();
            json.WriteString("type"u8, "summary_text"u8);
            json.WriteString("text"u8, _text.WrittenSpan);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        if (_seal is not null)
        {
            json.WriteString("encrypted_content"u8, _seal);
        }
        else if (!isBegun)
        {
            json.WriteStartArray("content"u8);
            json.WriteStartObject();
            json.WriteString("type"u8, "reasoning_text"u8);
            json.WriteString("text"u8, _text.WrittenSpan);
            json.WriteEndObject();
            json.WriteEndArray();
        }

        json.WriteEndObject();
    }

    private void WriteCall(Utf8JsonWriter json, ReadOnlySpan<byte> arguments, string status)
    {
        json.WriteStartObject();
        json.WriteString("type"u8, "function_call"u8);
        json.WriteString("call_id"u8, _callId);
        json.WriteString("name"u8, _callName);
        json.WriteString("arguments"u8, arguments);
        json.WriteString("status"u8, status);
        json.WriteEndObject();
    }

    private void WriteTool(Utf8JsonWriter json, ReadOnlySpan<byte> arguments, string status, ToolResult? result)
    {
        json.WriteStartObject();
        json.WriteString("type"u8, "mcp_call"u8);
        json.WriteString("server_label"u8, _server);
        json.WriteString("name"u8, _callName);
        json.WriteString("arguments"u8, arguments);
        json.WriteString("output"u8, result is { Failed: false } ? result.Value.Text : null);
        json.WriteString("error"u8, result is { Failed: true } ? result.Value.Text : null);
        json.WriteNull("approval_request_id"u8);
        json.WriteString("status"u8, status);
        json.WriteEndObject();
    }

    private static byte[] Write(Action<Utf8JsonWriter> write)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(buffer, Raw))
        {
            write(json);
        }

        return buffer.WrittenSpan.ToArray();
    }
}
