using System.Buffers;
using System.Text.Json;
using Sessions.Api.Domain;
using Sessions.Api.Engine;

namespace Sessions.Api.Http.OpenAi;

/// <summary>The events of a turn as chunks of a chat completion.</summary>
/// <param name="model">The model, as it was asked for.</param>
/// <param name="includeUsage">Whether a last chunk tells the usage.</param>
/// <param name="errorOf">Its errors, in the words of the request.</param>
internal sealed class ChatChunks(string model, bool includeUsage, Func<Error, OpenAiError> errorOf) : ITurnEventFormatter
{
    private readonly Dictionary<int, int> _calls = [];
    private TurnBegun _begun = null!;
    private bool _hasText;
    private bool _beginsMessage;

    public IResult Refuse(Error error) => errorOf(error);

    public void Write(IBufferWriter<byte> writer, int number, TurnEvent happened)
    {
        switch (happened)
        {
            case TurnBegun begun:
                _begun = begun;
                WriteDelta(writer, 0, static (json, _) =>
                {
                    json.WriteString("role"u8, "assistant"u8);
                    json.WriteString("content"u8, ""u8);
                    json.WriteNull("refusal"u8);
                });
                break;
            case ItemAdded { Type: "message" }:
                _beginsMessage = _hasText;
                break;
            case TextDelta delta:
                // As in the answer at once: a line break between two messages, as before and after a tool has run.
                var told = _beginsMessage ? delta with { Text = delta.Text.After("\n"u8) } : delta;
                (_hasText, _beginsMessage) = (true, false);
                WriteDelta(writer, told, static (json, delta) =>
                    JsonText.WriteString(json, delta.IsRefusal ? "refusal"u8 : "content"u8, delta.Text.Span));
                break;
            case ItemAdded { Type: "function_call" } added:
                _calls[added.Index] = _calls.Count;
                WriteDelta(writer, (Index: _calls[added.Index], added.Item), static (json, x) =>
                {
                    using var call = JsonDocument.Parse(x.Item);
                    json.WriteStartArray("tool_calls"u8);
                    ChatCompletion.WriteCall(json, call.RootElement, x.Index, withArguments: false);
                    json.WriteEndArray();
                });
                break;
            case ArgumentsDelta delta when _calls.TryGetValue(delta.Index, out var index):
                WriteDelta(writer, (index, delta), static (json, x) =>
                {
                    json.WriteStartArray("tool_calls"u8);
                    json.WriteStartObject();
                    json.WriteNumber("index"u8, x.index);
                    json.WriteStartObject("function"u8);
                    JsonText.WriteString(json, "arguments"u8, x.delta.Delta.Span);
                    json.WriteEndObject();
                    json.WriteEndObject();
                    json.WriteEndArray();
                });
                break;
            case TurnCompleted { Result.Turn: var turn }:
                WriteChunk(writer, (turn, 0), static (json, x) =>
                {
                    json.WriteStartArray("choices"u8);
                    json.WriteStartObject();
                    json.WriteNumber("index"u8, 0);
                    json.WriteStartObject("delta"u8);
                    json.WriteEndObject();
                    json.WriteNull("logprobs"u8);
                    json.WriteString("finish_reason"u8, ChatCompletion.FinishReasonOf(x.turn));
                    json.WriteEndObject();
                    json.WriteEndArray();
                });
                if (includeUsage)
                {
                    WriteChunk(writer, (turn, 0), static (json, x) =>
                    {
                        json.WriteStartArray("choices"u8);
                        json.WriteEndArray();
                        ChatCompletion.WriteUsage(json, x.turn.Usage);
                    });
                }

                writer.Write("data: [DONE]\n\n"u8);
                break;
            case TurnFailed failed:
                WriteData(writer, Json.Write(errorOf(failed.Error), static (json, error) =>
                {
                    json.WriteStartObject();
                    json.WritePropertyName("error"u8);
                    error.Write(json);
                    json.WriteEndObject();
                }));
                break;
        }
    }

    private void WriteDelta<T>(IBufferWriter<byte> writer, T value, Action<Utf8JsonWriter, T> write) => WriteChunk(
        writer, (value, write), static (json, x) =>
    {
        json.WriteStartArray("choices"u8);
        json.WriteStartObject();
        json.WriteNumber("index"u8, 0);
        json.WriteStartObject("delta"u8);
        x.write(json, x.value);
        json.WriteEndObject();
        json.WriteNull("logprobs"u8);
        json.WriteNull("finish_reason"u8);
        json.WriteEndObject();
        json.WriteEndArray();
    });

    private void WriteChunk<T>(IBufferWriter<byte> writer, T value, Action<Utf8JsonWriter, T> write) => WriteData(
        writer, Json.Write((This: this, value, write), static (json, x) =>
    {
        json.WriteStartObject();
        json.WriteString("id"u8, ChatCompletion.IdOf(x.This._begun.SessionKey, x.This._begun.Nonce));
        json.WriteString("object"u8, "chat.completion.chunk"u8);
        json.WriteNumber("created"u8, x.This._begun.At.ToUnixTimeSeconds());
        json.WriteString("model"u8, x.This.Model);
        x.write(json, x.value);
        json.WriteEndObject();
    }));

    private string Model => model;

    private static void WriteData(IBufferWriter<byte> writer, ReadOnlyMemory<byte> data)
    {
        writer.Write("data: "u8);
        writer.Write(data.Span);
        writer.Write("\n\n"u8);
    }
}
