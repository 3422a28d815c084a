using System.Buffers;
using System.Text;
using System.Text.Json;
using Sessions.Api.Domain;
using Sessions.Api.Engine;
using Sessions.Api.Engine.Streams;

namespace Sessions.Api.Http.OpenAi;

/// <summary>
/// The events of a turn as those of a streamed Response. One event of the turn becomes none, one or several of these, always the same: so
/// their numbers are the same for each reader, and whoever comes back goes on behind the last one it has.
/// </summary>
/// <param name="isConversation">Whether the Response is made in a conversation.</param>
/// <param name="inProgress">The Response as it is while the turn runs, when it began then.</param>
/// <param name="request">What was asked for; <see langword="null"/> where that is not known any more.</param>
/// <param name="startingAfter">The last event that the reader has; -1: none.</param>
internal sealed class ResponseEvents(
    bool isConversation, Func<DateTimeOffset, ReadOnlyMemory<byte>> inProgress, ResponseObject? request, int startingAfter)
    : ITurnEventFormatter
{
    private readonly List<int> _parts = [];
    private IBufferWriter<byte> _writer = null!;
    private TurnBegun _begun = null!;
    private string _addedType = "";
    private int _outputIndex = -1;
    private int _sequence;

    /// <summary>Those of a turn that is told as it runs; or once more, where the request was answered before.</summary>
    public ResponseEvents(StreamedTurn turn, int startingAfter)
        : this(turn.Command.Kind != SessionKind.Chain, at => InProgress(turn, at), (ResponseObject)turn.Command.Response!, startingAfter)
    {
    }

    /// <summary>How many events a turn has become so far.</summary>
    public static int CountOf(StreamedTurn turn)
    {
        var events = new ResponseEvents(turn, startingAfter: int.MaxValue);
        var nowhere = new ArrayBufferWriter<byte>();
        for (var i = 0; turn.Read(i, out _) is { } happened; i++)
        {
            events.Write(nowhere, i, happened);
        }

        return events._sequence;
    }

    public IResult Refuse(Error error) => request?.ErrorOf(error) ?? OpenAiError.From(error);

    public void Write(IBufferWriter<byte> writer, int number, TurnEvent happened)
    {
        _writer = writer;
        switch (happened)
        {
            case TurnBegun begun:
                _begun = begun;
                var snapshot = Compose(inProgress(begun.At), []);
                WriteResponse("response.created", snapshot);
                WriteResponse("response.in_progress", snapshot);
                break;
            case ItemAdded added:
                // A deleted item keeps its place, and so the others their ids; clients count those that they are told.
                _outputIndex++;
                _parts.Clear();
                WriteItem("response.output_item.added", added.Index, added.Type, added.Item);
                break;
            case TextDelta delta:
                Begin(delta.Index, delta.ContentIndex, delta.IsRefusal ? "refusal" : "output_text");
                Write(
                    delta.IsRefusal ? "response.refusal.delta" : "response.output_text.delta",
                    (delta, Id: IdOf(delta.Index, "message"), Index: _outputIndex), static (json, x) =>
                {
                    WritePlace(json, x.Id, x.Index, x.delta.ContentIndex);
                    JsonText.WriteString(json, "delta"u8, x.delta.Text.Span);
                    if (!x.delta.IsRefusal)
                    {
                        WriteEmptyArray(json, "logprobs");
                    }
                });
                break;
            case ArgumentsDelta delta:
                WriteArguments(delta);
                if (_addedType == "mcp_call")
                {
                    // The server's own calls are made when their arguments are whole.
                    WriteArgumentsDone(delta.Index, delta.Delta);
                }

                break;
            case ToolStarted started:
                WriteTool("response.mcp_call.in_progress", started.Index);
                break;
            case ToolEnded ended:
                WriteTool(ended.Failed ? "response.mcp_call.failed" : "response.mcp_call.completed", ended.Index);
                break;
            case ItemDone done:
                WriteEndOf(done);
                WriteItem("response.output_item.done", done.Index, done.Type, done.Item);
                break;
            case TurnCompleted { Result: var result }:
                var output = ItemJson.Of(result.SessionKey, result.Turn.Nonce, ItemSide.Output, result.Turn.Output);
                WriteResponse(
                    result.Turn.Status == TurnStatus.Incomplete ? "response.incomplete" : "response.completed",
                    Compose(KeptOf(result.Turn), output));
                break;
            case TurnFailed failed:
                WriteFailure(failed);
                break;
        }
    }

    private ReadOnlyMemory<byte> KeptOf(Turn turn) => turn.Response.IsEmpty && request is not null ? request.Of(turn) : turn.Response;

    private static ReadOnlyMemory<byte> InProgress(StreamedTurn turn, DateTimeOffset at) =>
        turn.Result is { Replayed: true, Turn.Response: { IsEmpty: false } kept }
            ? ResponseObject.Begun(kept)
            : ((ResponseObject)turn.Command.Response!).InProgress(at);

    private ReadOnlyMemory<byte> Compose(ReadOnlyMemory<byte> kept, IReadOnlyList<TurnItem> output) => ResponseObject.Compose(
        new ResponseId(_begun.SessionKey, _begun.Nonce), kept, output, isConversation ? _begun.SessionKey : null);

    private string IdOf(int index, string type) => new ItemId(_begun.SessionKey, _begun.Nonce, ItemSide.Output, index).ToString(type);

    private void Begin(int index, int contentIndex, string type)
    {
        if (_parts.Contains(contentIndex))
        {
            return;
        }

        _parts.Add(contentIndex);
        Write("response.content_part.added", (Id: IdOf(index, "message"), index: _outputIndex, contentIndex, type), static (json, x) =>
        {
            WritePlace(json, x.Id, x.index, x.contentIndex);
            json.WriteStartObject("part"u8);
            json.WriteString("type"u8, x.type);
            json.WriteString(x.type == "refusal" ? "refusal"u8 : "text"u8, ""u8);
            if (x.type == "output_text")
            {
                WriteEmptyArray(json, "annotations");
                WriteEmptyArray(json, "logprobs");
            }

            json.WriteEndObject();
        });
    }

    // What comes before an item's own end: those of its parts, or of its arguments.
    private void WriteEndOf(ItemDone done)
    {
        using var item = JsonDocument.Parse(done.Item);
        if (done.Type == "message" && item.RootElement.TryGetProperty("content", out var content)
            && content.ValueKind == JsonValueKind.Array)
        {
            var index = 0;
            foreach (var part in content.EnumerateArray())
            {
                WriteEndOf(done.Index, index++, part);
            }
        }
        else if (done.Type == "function_call")
        {
            Write("response.function_call_arguments.done",
                (Id: IdOf(done.Index, done.Type), item.RootElement, Index: _outputIndex), static (json, x) =>
            {
                json.WriteString("item_id"u8, x.Id);
                json.WriteNumber("output_index"u8, x.Index);
                Copy(json, x.RootElement, "name");
                Copy(json, x.RootElement, "arguments");
            });
        }
    }

    private void WriteArgumentsDone(int index, Utf8Text arguments) =>
        Write("response.mcp_call_arguments.done", (Id: IdOf(index, "mcp_call"), arguments, Index: _outputIndex), static (json, x) =>
        {
            json.WriteString("item_id"u8, x.Id);
            json.WriteNumber("output_index"u8, x.Index);
            json.WriteString("arguments"u8, x.arguments.Span);
        });

    private void WriteEndOf(int index, int contentIndex, JsonElement part)
    {
        var type = part.GetProperty("type").GetString()!;
        Begin(index, contentIndex, type);
        var id = IdOf(index, "message");
        Write(type == "refusal" ? "response.refusal.done" : "response.output_text.done",
            (id, index: _outputIndex, contentIndex, part, type), static (json, x) =>
        {
            WritePlace(json, x.id, x.index, x.contentIndex);
            Copy(json, x.part, x.type == "refusal" ? "refusal" : "text");
            if (x.type != "refusal")
            {
                WriteEmptyArray(json, "logprobs");
            }
        });
        Write("response.content_part.done", (id, index: _outputIndex, contentIndex, part), static (json, x) =>
        {
            WritePlace(json, x.id, x.index, x.contentIndex);
            json.WritePropertyName("part"u8);
            x.part.WriteTo(json);
        });
    }

    // Whose arguments they are is told by the item that was added last.
    private void WriteArguments(ArgumentsDelta delta)
    {
        var isTool = _addedType == "mcp_call";
        Write(isTool ? "response.mcp_call_arguments.delta" : "response.function_call_arguments.delta",
            (Id: IdOf(delta.Index, _addedType), delta, Index: _outputIndex), static (json, x) =>
        {
            json.WriteString("item_id"u8, x.Id);
            json.WriteNumber("output_index"u8, x.Index);
            JsonText.WriteString(json, "delta"u8, x.delta.Delta.Span);
        });
    }

    private void WriteTool(string type, int index) => Write(type, (Id: IdOf(index, "mcp_call"), index: _outputIndex), static (json, x) =>
    {
        json.WriteString("item_id"u8, x.Id);
        json.WriteNumber("output_index"u8, x.index);
    });

    private void WriteItem(string type, int index, string itemType, ReadOnlyMemory<byte> item)
    {
        _addedType = itemType;
        Write(type, (index: _outputIndex, Raw: ItemJson.WithId(IdOf(index, itemType), item.Span)), static (json, x) =>
        {
            json.WriteNumber("output_index"u8, x.index);
            json.WritePropertyName("item"u8);
            json.WriteRawValue(x.Raw, skipInputValidation: true);
        });
    }

    private void WriteResponse(string type, ReadOnlyMemory<byte> response) => Write(type, response, static (json, response) =>
    {
        json.WritePropertyName("response"u8);
        json.WriteRawValue(response.Span, skipInputValidation: true);
    });

    // Two events: clients differ in which of them they see, and in which form.
    private void WriteFailure(TurnFailed failed)
    {
        var error = OpenAiError.From(failed.Error);
        Write("error", error, static (json, error) =>
        {
            json.WriteString("code"u8, error.Code);
            json.WriteString("message"u8, error.Message);
            json.WriteString("param"u8, error.Param);
            json.WritePropertyName("error"u8);
            (error with { Type = OpenAiError.Server }).Write(json);
        });
        if (!failed.Response.IsEmpty)
        {
            WriteResponse("response.failed", Compose(failed.Response, []));
        }
    }

    private void Write<T>(string type, T value, Action<Utf8JsonWriter, T> write)
    {
        var sequence = _sequence++;
        if (sequence <= startingAfter)
        {
            return;
        }

        var data = Json.Write((type, sequence, value, write), static (json, x) =>
        {
            json.WriteStartObject();
            json.WriteString("type"u8, x.type);
            json.WriteNumber("sequence_number"u8, x.sequence);
            x.write(json, x.value);
            json.WriteEndObject();
        });
        Encoding.UTF8.GetBytes($"event: {type}\ndata: ", _writer);
        _writer.Write(data.Span);
        _writer.Write("\n\n"u8);
    }

    private static void WritePlace(Utf8JsonWriter json, string id, int index, int contentIndex)
    {
        json.WriteString("item_id"u8, id);
        json.WriteNumber("output_index"u8, index);
        json.WriteNumber("content_index"u8, contentIndex);
    }

    private static void WriteEmptyArray(Utf8JsonWriter json, string name)
    {
        json.WriteStartArray(name);
        json.WriteEndArray();
    }

    private static void Copy(Utf8JsonWriter json, JsonElement from, string name)
    {
        json.WritePropertyName(name);
        if (from.TryGetProperty(name, out var value))
        {
            value.WriteTo(json);
        }
        else
        {
            json.WriteStringValue(""u8);
        }
    }
}
